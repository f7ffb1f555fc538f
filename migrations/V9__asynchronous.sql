-- Whether the transaction that wrote a row may commit without waiting for the disk. Such a row is visible before it is durable,
-- and a crash takes it back: the leader has it made durable before it tells anybody.
ALTER TABLE rowcast.outbox
    ADD COLUMN asynchronous boolean NOT NULL DEFAULT (current_setting('synchronous_commit') = 'off');
