/** `@rowcast/react`: hooks and a status light around `@rowcast/client`. */

export { ConnectionStatus, type ConnectionLabels, type ConnectionStatusProps, type ConnectionView } from "./ConnectionStatus";
export { RowcastProvider, type RowcastProviderProps } from "./RowcastProvider";
export type { Register, RegisteredEvents, RowcastState } from "./store";
export { useRowcast } from "./useRowcast";
export { useRowcastEvent } from "./useRowcastEvent";
