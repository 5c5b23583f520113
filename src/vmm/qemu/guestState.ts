import type { Socket } from 'node:net';
import { abortable } from '../../base/abort.ts';
import { HrunError } from '../../base/errors.ts';
import { socketPair } from '../../sys/socketPair.ts';
import type { QmpConnection } from './qmp.ts';

/** Migration capability: RAM in a file is not part of the state. */
const ignoreShared = 'x-ignore-shared';
/** The devices of a microVM have 40 to 70 kB of state. */
const maxStateBytes = 4 * 1024 * 1024;
const stateFdName = 'state';

/**
 * Takes the state of the devices of a running guest, which stops with it. What QEMU saves is "running", so that a clone
 * goes on by itself.
 * @throws HrunError QEMU_FAILED
 */
export async function saveState(qmp: QmpConnection, signal: AbortSignal): Promise<Buffer> {
  using undo = new DisposableStack();
  const { socket, other } = socketPair();
  undo.defer(() => void socket.destroy());
  {
    using _other = other;
    await qmp.executeWithDescriptor('getfd', { fdname: stateFdName }, other.fd, signal);
  }
  const received = receiveAll(socket, signal);
  received.catch(() => {}); // when the migration itself fails
  const capabilities = [ignoreShared, 'events'].map((capability) => ({ capability, state: true }));
  await qmp.execute('migrate-set-capabilities', { capabilities }, signal);
  const ended = qmp.nextEvent(
    ({ event, data }) =>
      event === 'MIGRATION' && ['completed', 'failed', 'cancelled'].includes(data.status ?? ''),
    signal,
  );
  ended.catch(() => {});
  await qmp.execute('migrate', { uri: `fd:${stateFdName}` }, signal);
  const { data } = await ended;
  if (data.status !== 'completed') {
    throw new HrunError('QEMU_FAILED', `QEMU could not save the guest: migration ${data.status}`);
  }
  return await received;
}

/**
 * Reads a state that `saveState` took; the guest goes on once it is read, or is paused if QEMU was started so. A state
 * that QEMU cannot read ends it, later.
 * @param stateFd as numbered in QEMU
 * @throws HrunError QEMU_FAILED, VM_DIED
 */
export async function loadState(qmp: QmpConnection, stateFd: number, signal: AbortSignal): Promise<void> {
  const capabilities = [{ capability: ignoreShared, state: true }];
  // in order, but without waiting for the first answer
  await Promise.all([
    qmp.execute('migrate-set-capabilities', { capabilities }, signal),
    qmp.execute('migrate-incoming', { uri: `fd:${stateFd}` }, signal),
  ]);
}

async function receiveAll(socket: Socket, signal: AbortSignal): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const read = async () => {
    for await (const chunk of socket) {
      bytes += chunk.length;
      if (bytes > maxStateBytes) throw new HrunError('QEMU_FAILED', 'QEMU sent a state without end');
      chunks.push(chunk);
    }
  };
  try {
    await abortable(read(), signal);
  } finally {
    socket.destroy();
  }
  return Buffer.concat(chunks);
}
