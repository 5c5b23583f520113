import type { ProcessExit } from '../../agent/types.ts';
import { withCancel } from '../../base/abort.ts';
import { HrunError } from '../../base/errors.ts';
import { passOnClosedOutput, whenWritten } from '../attachSession.ts';
import type { GuestProcess } from '../guestProcess.ts';
import type { OutputPosition, OutputStream } from '../logRecord.ts';
import type { StandInLink } from './standInLink.ts';

/**
 * Joins a process in a guest to the stdio and the terminal of its stand-in until it has exited and its output is
 * written. Bytes are kept by the agent until the manager's descriptor has them.
 * @throws HrunError VM_DIED when the guest, or the stand-in, ended first
 */
export async function relayToStandIn(
  process: GuestProcess,
  link: StandInLink,
  signal: AbortSignal,
): Promise<ProcessExit> {
  return await withCancel(AbortSignal.any([signal, link.gone]), async (until, cancel) => {
    using stack = new DisposableStack();
    stack.defer(() => cancel(new HrunError('CANCELLED', 'the process has exited')));
    const from: OutputPosition = { stdout: link.stdout.offset, stderr: link.stderr.offset };
    const written: OutputPosition = { ...from };
    if (link.terminalSize !== undefined) process.resize(link.terminalSize);
    stack.use(link.onResize((size) => process.resize(size)));
    void process.relayInput(link.stdin, 0n, until).catch(() => {});
    passOnClosedOutput(process, link, until);
    for (const stream of ['stdout', 'stderr'] as const) {
      void acknowledgeWritten(process, stream, link, written, until).catch(() => {});
    }
    const sink = (stream: OutputStream, _offset: bigint, data: Uint8Array) => link[stream].write(data, until);
    const exit = await process.follow(from, sink, until);
    await whenWritten(link, until);
    return exit;
  });
}

async function acknowledgeWritten(
  process: GuestProcess,
  stream: OutputStream,
  link: StandInLink,
  written: OutputPosition,
  until: AbortSignal,
): Promise<void> {
  for (let at = link[stream].written; ; ) {
    at = await link[stream].writtenBeyond(at, until);
    written[stream] = at;
    process.acknowledge(written);
  }
}
