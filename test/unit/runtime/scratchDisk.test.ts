import { execFile } from 'node:child_process';
import { mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { isHrunError } from '../../../src/base/errors.ts';
import { createScratchDisk } from '../../../src/runtime/scratchDisk.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

const environment = { env: { PATH: '/usr/sbin:/sbin:/usr/bin:/bin' } };
const execute = promisify(execFile);
const never = new AbortController().signal;
const sizeBytes = 64 * 1024 * 1024;

describe('a scratch disk', () => {
  for (const journal of [true, false]) {
    it(`is an ext4 of its size ${journal ? 'with' : 'without'} a journal, sparse and whole`, async () => {
      await using directory = await temporaryDirectory();
      const path = join(directory.path, 'scratch.raw');
      const cache = join(directory.path, 'cache');
      await createScratchDisk({ path, sizeBytes, journal }, cache, never);
      const { size, blocks } = await stat(path);
      expect(size).to.equal(sizeBytes);
      expect(blocks * 512).to.be.lessThan(sizeBytes / 2);
      await execute('e2fsck', ['-n', '-f', path], environment);
      const { stdout } = await execute('dumpe2fs', ['-h', path], environment);
      expect(/^Filesystem features:.*\bhas_journal\b/m.test(stdout)).to.equal(journal);
      expect(await readdir(cache)).to.have.length(1);
    });
  }

  it('leaves nothing behind when it cannot be made', async () => {
    await using directory = await temporaryDirectory();
    const cache = join(directory.path, 'cache');
    await mkdir(cache);
    const path = join(directory.path, 'missing', 'scratch.raw');
    const failure = await createScratchDisk({ path, sizeBytes: 4096, journal: true }, cache, never).catch(
      (error: unknown) => error,
    );
    expect(isHrunError(failure, 'INTERNAL') && failure.message).to.contain('mkfs.ext4');
    expect(await readdir(cache)).to.deep.equal([]);
    expect(await readdir(directory.path)).to.deep.equal(['cache']);
  });
});
