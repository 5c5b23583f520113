import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect } from 'chai';
import { tryLockFile } from '../../../src/sys/fileLock.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

describe('tryLockFile', () => {
  it('lets one holder in at a time', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'lock');
    const first = await tryLockFile(path);
    expect(first).not.to.equal(undefined);
    expect(await tryLockFile(path)).to.equal(undefined);
    await first?.[Symbol.asyncDispose]();
    await using again = await tryLockFile(path);
    expect(again).not.to.equal(undefined);
  });

  it('is not kept by a child process that outlives the holder', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'lock');
    const held = await tryLockFile(path);
    const child = spawn('sleep', ['60'], { stdio: 'ignore' });
    await once(child, 'spawn');
    await held?.[Symbol.asyncDispose]();
    await using again = await tryLockFile(path);
    expect(again).not.to.equal(undefined);
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
});
