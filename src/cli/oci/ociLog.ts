import { messageOf } from '../../base/errors.ts';
import type { Context } from '../deps.ts';

/** Where runc's callers look for what went wrong. */
export interface OciLog {
  readonly path: string | undefined;
  readonly format: 'text' | 'json';
}

/**
 * Tells an error as runc does: as a line of the log, which is stderr unless `--log` names a file; then the bare message
 * goes to stderr too. The containerd shim takes the last error line of the JSON log for its own error.
 */
export async function logError(message: string, log: OciLog, context: Context): Promise<void> {
  const { session, signal, deps } = context;
  const line = logLine(
    message,
    log,
    new Date(deps.now()),
    session.isTerminal.stderr && log.path === undefined,
  );
  if (log.path === undefined) return await context.complain(line);
  try {
    const options = { exclusive: false, append: true, mode: 0o644 };
    await using file = await session.files.openWrite(log.path, options, signal);
    await file.write(Buffer.from(line), signal);
    await file.close(signal);
  } catch (error) {
    signal.throwIfAborted();
    await context.complain(`hrun: the log ${log.path} cannot be written: ${messageOf(error)}\n`);
  }
  await context.complain(`${message}\n`);
}

/** Logrus's formats. Pure. */
export function logLine(message: string, { format }: OciLog, now: Date, colours = false): string {
  const time = now.toISOString().replace(/\.\d+Z$/, 'Z');
  if (format === 'json') return `${JSON.stringify({ level: 'error', msg: message, time })}\n`;
  if (colours) return `\u001b[31mERRO\u001b[0m[0000] ${message}\n`;
  const plain = /^[A-Za-z0-9\-._/@^+]*$/.test(message);
  return `time="${time}" level=error msg=${plain && message !== '' ? message : JSON.stringify(message)}\n`;
}
