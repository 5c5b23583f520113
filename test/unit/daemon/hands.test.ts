import { closeSync, fstatSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
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
  return { files: callerFiles(hands, stdin, '/', takeDescriptor), asked };
}

/** One of this process stands for one of the front door. */
const takeDescriptor = (number: number) => openSync(`/proc/self/fd/${number}`, 'r');

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

  describe('that open a file for good', () => {
    const directory = mkdtempSync(join(tmpdir(), 'hrt-'));
    const open: number[] = [];
    after(() => {
      for (const fd of open) closeSync(fd);
      rmSync(directory, { recursive: true });
    });

    function opened(path: string, change: object = {}): CallerFiles {
      const fd = openSync(path, 'r');
      const { dev, ino } = fstatSync(fd, { bigint: true });
      const known = { device: String(dev), inode: String(ino) };
      const result = { handle: 1, size: 0, mode: 0, isDirectory: false, fd, ...known, ...change };
      open.push(fd);
      return filesThatAnswer(0, result).files;
    }

    it('take over what was opened', async () => {
      const path = join(directory, 'disk');
      closeSync(openSync(path, 'w'));
      using disk = await opened(path).openDescriptor(path, { readonly: true }, signal);
      expect(disk.kind).to.equal('file');
      expect(fstatSync(disk.fd).isFile()).to.equal(true);
    });

    it('refuse a directory, and another file than was opened', async () => {
      const refusal = (files: CallerFiles) =>
        files.openDescriptor(directory, { readonly: true }, signal).then(
          () => 'nothing',
          (error: unknown) => (isHrunError(error) ? error.code : String(error)),
        );
      expect(await refusal(opened(directory))).to.equal('INVALID_ARGUMENT');
      expect(await refusal(opened(directory, { inode: '1' }))).to.equal('WIRE_PROTOCOL');
    });
  });
});
