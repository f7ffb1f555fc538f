/** What can be done to this merchant's client alone: end its token, make it poll. The light has the button that connects anew. */

import { Icon } from "../icons";

interface ClientControlsProps {
  readonly polling: boolean;
  readonly onExpire: () => void;
  readonly onPolling: (polling: boolean) => void;
}

export function ClientControls({ polling, onExpire, onPolling }: ClientControlsProps) {
  return (
    <div className="client-controls" role="group" aria-label="This client">
      <button type="button" className="button quiet" data-client="expire" onClick={onExpire}>
        <Icon name="key" />
        Expire token
      </button>
      <button type="button" className="button quiet" data-client="polling" aria-pressed={polling} onClick={() => onPolling(!polling)}>
        <Icon name="poll" />
        Poll only
      </button>
    </div>
  );
}
