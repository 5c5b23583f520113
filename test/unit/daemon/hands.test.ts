import { constants } from 'node:os';
import { expect } from 'chai';
import { isHrunError } from '../../../src/base/errors.ts';
import { callerFiles, Hands } from '../../../src/daemon/hands.ts';
import type { CallerFiles } from '../../../src/runtime/callerFiles.ts';

const { EBADMSG, ENOENT } = constants.errno;
const signal = new AbortController().signal;
const stdin = {
  read: () => {
    throw new Error('stdin is not read here');
  },
  accept: () => {},
  close: () => {},
};

/** The files of a caller whose front door answers each hand with `errno` and `result`. */
function filesThatAnswer(errno: number, result: object): { readonly files: CallerFiles; asked: object[] } {
  const asked: object[] = [];
  const hands: Hands = new Hands((frame) => {
    // length, type and id stand before the JSON and its length
    const id = frame.readUInt32LE(5);
    asked.push(JSON.parse(frame.subarray(13, 13 + frame.readUInt32LE(9)).toString()));
    hands.done(id, { errno, result, bytes: Buffer.alloc(0) });
  });
  return { files: callerFiles(hands, stdin, '/'), asked };
}

const copy = { inputPath: '/x.tar', length: 1024, directory: 'target', name: 'copy', archive: true };

async function failureOf(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!isHrunError(error)) throw new Error('no HrunError');
  expect(error.code).to.equal('HAND_FAILED');
  return error.message;
}

describe('the hands of a front door', () => {
  it('extract an archive and tell what was left out', async () => {
    const { files, asked } = filesThatAnswer(0, { skippedDevices: 3 });
    expect(await files.unpack(copy, signal)).to.deep.equal({ skippedDevices: 3 });
    expect(asked).to.deep.equal([{ op: 'unpack', ...copy }]);
  });

  it('tell a failure by its errno', async () => {
    const { files } = filesThatAnswer(ENOENT, {});
    expect(await failureOf(files.unpack(copy, signal))).to.equal('target: no such file or directory');
  });

  it('tell a failure in the words of the front door, made printable', async () => {
    const { files } = filesThatAnswer(EBADMSG, { message: 'entry "a\u001b[2J": damaged' });
    const message = await failureOf(files.unpack(copy, signal));
    expect(message).to.match(/^target: entry "a.*": damaged$/u);
    expect(message).not.to.contain('\u001b');
  });
});
