import { backoff } from '../base/backoff.ts';
import { errnoOf } from '../base/errors.ts';
import type { Dial } from './dial.ts';

/** The guest is still booting: nobody listens yet, or nobody has the CID. */
const notYet = new Set(['ECONNRESET', 'ECONNREFUSED', 'ETIMEDOUT', 'ENODEV', 'EHOSTUNREACH', 'EINTR']);

/** Dials over AF_VSOCK: `connect` tries once, and is tried again until the agent listens or `signal` fires. */
export function vsockDial(connect: Dial): Dial {
  return async (signal) => {
    for (const pauses = backoff(1, 50); ; ) {
      try {
        return await connect(signal);
      } catch (error) {
        if (!notYet.has(errnoOf(error) ?? '')) throw error;
        await pauses.pause(signal);
      }
    }
  };
}
