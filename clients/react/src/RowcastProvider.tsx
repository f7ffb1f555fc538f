/** Gives a client to the components below, and starts and stops the one that it has made. */

import { useEffect, useMemo, useRef, useState, type ReactElement, type ReactNode } from "react";
import { createClient, type RowcastClient, type RowcastOptions } from "@rowcast/client";
import { storeOf, StoreContext, type RegisteredEvents, type Store } from "./store";

/** Options, or a client of the application's own: whoever makes a client starts and stops it. */
export type RowcastProviderProps = { readonly children?: ReactNode } & (
  | {
      readonly options: RowcastOptions;
      /** `createClient` unless given; `createSharedClient`, of `@rowcast/client/shared`, is one socket for all tabs. Called once. */
      readonly create?: Create;
      readonly client?: undefined;
    }
  | { readonly client: RowcastClient<RegisteredEvents>; readonly options?: undefined; readonly create?: undefined }
);

type Create = (options: RowcastOptions) => RowcastClient<RegisteredEvents>;

export function RowcastProvider({ client, options, create = createClient, children }: RowcastProviderProps): ReactElement {
  return client ? (
    <Given client={client}>{children}</Given>
  ) : (
    <Made options={options} create={create}>
      {children}
    </Made>
  );
}

function Given({ client, children }: { readonly client: RowcastClient<RegisteredEvents>; readonly children: ReactNode }): ReactElement {
  const store = useMemo(() => storeOf(client), [client]);
  return <StoreContext.Provider value={store}>{children}</StoreContext.Provider>;
}

interface MadeProps {
  readonly options: RowcastOptions;
  readonly create: Create;
  readonly children: ReactNode;
}

function Made({ options, create, children }: MadeProps): ReactElement {
  const [store] = useState<Store>(() => storeOf(create(options)));
  const { client } = store;
  const mounted = useRef(false);

  // Each render's functions take the place of the last one's; the client itself sees whether it has to connect anew.
  useEffect(() => client.setOptions(options), [client, options]);
  useEffect(() => {
    mounted.current = true;
    client.start();
    return () => {
      mounted.current = false;
      // StrictMode and Fast Refresh mount again at once: the socket stays open over that.
      queueMicrotask(() => {
        if (!mounted.current) client.stop();
      });
    };
  }, [client]);

  return <StoreContext.Provider value={store}>{children}</StoreContext.Provider>;
}
