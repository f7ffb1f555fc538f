/** Once for all files: the whole system is started; afterwards it is stopped. */

import type { TestProject } from "vitest/node";
import { startDev } from "../../testing/dev";

declare module "vitest" {
  export interface ProvidedContext {
    /** The folder of the running `rowcast dev`, with its dev.json. */
    devFolder: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dev = await startDev("--no-demo", "--edges", "2", "--restart-after", "1");
  project.provide("devFolder", dev.folder);
  return dev.stop;
}
