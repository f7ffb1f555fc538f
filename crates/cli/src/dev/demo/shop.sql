-- A shop's own tables. Names with capitals are quoted, as an application's object mapper writes them.
CREATE SEQUENCE IF NOT EXISTS "bookingNumbers" START 1001;

CREATE TABLE IF NOT EXISTS "Booking" (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "bookingNumber" text        NOT NULL UNIQUE DEFAULT 'B-' || nextval('"bookingNumbers"'),
    "merchantId"    text        NOT NULL,
    "customerName"  text        NOT NULL,
    status          text        NOT NULL DEFAULT 'PENDING'
                    CHECK (status IN ('PENDING', 'CONFIRMED', 'CANCELLED')),
    "startTime"     timestamptz NOT NULL,
    "createdAt"     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS "Booking_merchantId_status" ON "Booking" ("merchantId", status);

-- What is booked stands here, and not in a column of "Booking".
CREATE TABLE IF NOT EXISTS "BookingService" (
    "bookingId"       bigint  PRIMARY KEY REFERENCES "Booking" ON DELETE CASCADE,
    name              text    NOT NULL,
    "durationMinutes" integer NOT NULL,
    "priceCents"      integer NOT NULL
);

-- What clients are sent for a booking: its service too.
CREATE OR REPLACE FUNCTION "bookingPayload"(booking "Booking") RETURNS json
LANGUAGE sql STABLE
SET search_path = public, pg_temp
AS $$
    SELECT json_build_object(
        'id', booking.id,
        'bookingNumber', booking."bookingNumber",
        'merchantId', booking."merchantId",
        'customerName', booking."customerName",
        'status', booking.status,
        'startTime', booking."startTime",
        'service', (SELECT json_build_object('name', s.name, 'durationMinutes', s."durationMinutes", 'priceCents', s."priceCents")
                      FROM "BookingService" AS s WHERE s."bookingId" = booking.id))
$$;
