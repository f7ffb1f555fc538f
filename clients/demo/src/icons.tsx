/** The few drawings of the page: strokes in the text's colour, hidden from screen readers, whose words stand beside them. */

const PATHS = {
  plus: "M8 3.5v9M3.5 8h9",
  check: "M3.5 8.5l3 3 6-7",
  cancel: "M4 4l8 8M12 4l-8 8",
  trash: "M3 4.5h10M6.5 4.5V3h3v1.5M4.5 4.5l.6 8.5h5.8l.6-8.5M6.8 7v4M9.2 7v4",
  key: "M9.2 6.8a3 3 0 1 0-2 2.4L8.5 10.5H10V12h1.5v1.5h2v-2L9.2 7.6",
  poll: "M8 3v5l3 2M14 8A6 6 0 1 1 8 2",
} as const;

export function Icon({ name }: { readonly name: keyof typeof PATHS }) {
  return (
    <svg className="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
