/**
 * The package of 4.0 has types that cannot be found through its `exports`. What is used of it here is as in the newest, but for what that
 * has gained since; there the value is undefined, which tests look at.
 */
declare module "socket.io-client-4.0" {
  export { io } from "socket.io-client";
}
