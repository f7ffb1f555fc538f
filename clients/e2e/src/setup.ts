/** Once for all files: the fixture is built and the whole system started; afterwards it is stopped. */

import type { TestProject } from "vitest/node";
import { buildFixture } from "./fixture";
import { startDev } from "../../testing/dev";

declare module "vitest" {
  export interface ProvidedContext {
    /** The folder of the running `rowcast dev`, with its dev.json. */
    devFolder: string;
    /** The built fixture. */
    fixtureFolder: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const fixture = await buildFixture();
  const dev = await startDev("--listeners", "2", "--edges", "2", "--restart-after", "1");
  project.provide("devFolder", dev.folder);
  project.provide("fixtureFolder", fixture);
  return dev.stop;
}
