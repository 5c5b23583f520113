import { rm } from 'node:fs/promises';
import { join } from 'node:path';

/** The sockets of one VM, in its run directory. */
export interface RunFiles {
  readonly control: string;
  readonly agent: string;
}

export function runFiles(runDir: string): RunFiles {
  return {
    control: join(runDir, 'qmp.sock'),
    agent: join(runDir, 'agent.sock'),
  };
}

export async function removeRunFiles(runDir: string): Promise<void> {
  await Promise.all(Object.values(runFiles(runDir)).map((path) => rm(path, { force: true })));
}
