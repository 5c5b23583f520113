import { open, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { copySparse } from '../../../src/sys/sparseCopy.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

const never = new AbortController().signal;

describe('copySparse', () => {
  it('copies data and keeps holes, at the ends too', async () => {
    await using directory = await temporaryDirectory();
    const [from, to] = [join(directory.path, 'from'), join(directory.path, 'to')];
    {
      await using file = await open(from, 'w');
      await file.write(Buffer.alloc(3_000_000, 'a'), 0, 3_000_000, 4 * 1024 * 1024);
      await file.write(Buffer.from('tail'), 0, 4, 64 * 1024 * 1024);
      await file.truncate(128 * 1024 * 1024);
    }
    await copySparse(from, to, never);
    expect((await readFile(to)).equals(await readFile(from))).to.equal(true);
    const { size, blocks, mode } = await stat(to);
    expect(size).to.equal(128 * 1024 * 1024);
    expect(blocks * 512).to.be.lessThan(8 * 1024 * 1024);
    expect(mode & 0o777).to.equal(0o600);
  });

  it('copies an empty file and one that is all hole', async () => {
    await using directory = await temporaryDirectory();
    const from = join(directory.path, 'from');
    await writeFile(from, '');
    await copySparse(from, join(directory.path, 'empty'), never);
    expect((await stat(join(directory.path, 'empty'))).size).to.equal(0);
    await using file = await open(from, 'r+');
    await file.truncate(1_000_000);
    await copySparse(from, join(directory.path, 'hole'), never);
    expect((await stat(join(directory.path, 'hole'))).size).to.equal(1_000_000);
  });

  it('stops when aborted and names a missing source', async () => {
    await using directory = await temporaryDirectory();
    const from = join(directory.path, 'from');
    const failure = await copySparse(from, `${from}2`, never).catch((error: unknown) => error);
    expect(failure).to.have.property('code', 'ENOENT');
    const aborted = await copySparse(from, `${from}2`, AbortSignal.abort()).catch((error: unknown) => error);
    expect(aborted).to.have.property('name', 'AbortError');
  });
});
