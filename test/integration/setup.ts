import { access } from 'node:fs/promises';
import { hrunPath } from '../helpers/hrunHost.ts';

/** These tests drive what a build made: without it each would fail in its own confusing way. */
export async function mochaGlobalSetup(): Promise<void> {
  await access(hrunPath).catch((cause: unknown) => {
    throw new Error(`${hrunPath} is missing: run "make build" first`, { cause });
  });
}
