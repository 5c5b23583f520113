import { HrunError } from '../base/errors.ts';
import type { InputChannel, InputPiece } from '../runtime/attachIo.ts';

/** Docker's default: ctrl-p, ctrl-q. */
export const defaultDetachKeys: readonly number[] = [16, 17];

const named: Readonly<Record<string, number>> = { DEL: 127, 'ctrl-@': 0, 'ctrl-[': 27, 'ctrl-\\': 28 };

/**
 * Bytes of a key sequence written as Docker has it: `ctrl-p,ctrl-q`, `a,b`; empty: none.
 * @throws HrunError INVALID_ARGUMENT
 */
export function parseDetachKeys(text: string): number[] {
  if (text === '') return [];
  return text.split(',').map((key) => {
    if (/^[\x20-\x7e]$/.test(key)) return key.charCodeAt(0);
    const control = /^ctrl-([a-z])$/.exec(key)?.[1];
    const code = control === undefined ? (named[key] ?? extraControl(key)) : control.charCodeAt(0) - 96;
    if (code === undefined) {
      throw new HrunError('INVALID_ARGUMENT', `invalid detach keys "${text}": unknown key "${key}"`, {
        hint: 'write single characters or ctrl-a to ctrl-z, with commas between: ctrl-p,ctrl-q',
      });
    }
    return code;
  });
}

function extraControl(key: string): number | undefined {
  const sign = /^ctrl-([\]^_])$/.exec(key)?.[1];
  return sign === undefined ? undefined : 29 + ']^_'.indexOf(sign);
}

/**
 * The same input, ending when `keys` are typed in a row: then `onDetach` is called and none of the keys gets through.
 * A beginning of the sequence is held back until the next byte decides; offsets stay those of the whole stream.
 */
export function withDetachKeys(
  input: InputChannel,
  keys: readonly number[],
  onDetach: () => void,
): InputChannel {
  if (keys.length === 0) return input;
  return {
    read: (from, signal) => detaching(input.read(from, signal), keys, onDetach),
    accept: (offset) => input.accept(offset),
    close: () => input.close(),
  };
}

async function* detaching(
  pieces: AsyncIterable<InputPiece>,
  keys: readonly number[],
  onDetach: () => void,
): AsyncGenerator<InputPiece> {
  let held = Buffer.alloc(0);
  let heldFrom: bigint | undefined;
  for await (const { offset, bytes } of pieces) {
    const start = heldFrom ?? offset;
    const whole = Buffer.concat([held, bytes]);
    const at = whole.indexOf(Buffer.from(keys));
    if (at >= 0) {
      if (at > 0) yield { offset: start, bytes: whole.subarray(0, at) };
      onDetach();
      return;
    }
    const keep = beginningAtEnd(whole, keys);
    const ready = whole.subarray(0, whole.length - keep);
    held = whole.subarray(whole.length - keep);
    heldFrom = start + BigInt(ready.length);
    if (ready.length > 0) yield { offset: start, bytes: ready };
  }
  if (held.length > 0 && heldFrom !== undefined) yield { offset: heldFrom, bytes: held };
}

/** How many bytes at the end could still become the sequence. */
function beginningAtEnd(bytes: Buffer, keys: readonly number[]): number {
  for (let length = Math.min(keys.length - 1, bytes.length); length > 0; length--) {
    if (bytes.subarray(bytes.length - length).equals(Buffer.from(keys.slice(0, length)))) return length;
  }
  return 0;
}
