import type { Duplex } from 'node:stream';

/** Opens the byte stream to one agent. The only seam between the agent's client and how a VM is reached. */
export type Dial = (signal: AbortSignal) => Promise<Duplex>;
