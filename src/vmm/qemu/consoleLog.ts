import { z } from 'zod';
import { printable } from '../../base/text.ts';
import { consoleBytes, consoleChardev } from './commandLine.ts';
import type { QmpConnection } from './qmp.ts';

/** What the guest printed last, drained from QEMU's ring, whose reads consume. */
export class ConsoleLog {
  readonly #qmp: QmpConnection;
  #tail = Buffer.alloc(0);

  constructor(qmp: QmpConnection) {
    this.#qmp = qmp;
  }

  /** Up to 64 KiB, fit for a terminal. What was read before the VMM went away stays readable. */
  async read(signal: AbortSignal): Promise<string> {
    const answer = await this.#qmp
      .execute('ringbuf-read', { device: consoleChardev, size: consoleBytes, format: 'base64' }, signal)
      .catch((error: unknown) => {
        signal.throwIfAborted();
        if (this.#tail.length === 0) throw error;
        return '';
      });
    const fresh = Buffer.from(z.string().parse(answer), 'base64');
    this.#tail = Buffer.concat([this.#tail, fresh]).subarray(-consoleBytes);
    return printableLines(this.#tail);
  }
}

/** Console output fit for a terminal, its line ends kept. */
function printableLines(bytes: Uint8Array): string {
  return Buffer.from(bytes)
    .toString('utf8')
    .split(/\r*\n/)
    .map((line) => printable(line.replaceAll('\t', '  '), consoleBytes))
    .join('\n');
}

/** The last `count` lines with something on them, for an error message. */
export function lastLines(text: string, count: number): string[] {
  return text
    .split('\n')
    .map((line) => line.trimEnd())
    .filter((line) => line !== '')
    .slice(-count);
}
