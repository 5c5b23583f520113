import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { createRam, loadRam, storeRam } from '../../../src/pool/ramImage.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

const soon = () => AbortSignal.timeout(10_000);
const sizeBytes = 8 * 1024 * 1024;
const pageBytes = 4096;

describe("a guest's RAM on disk", () => {
  it('comes back as it was, wherever its data lies, and takes no room for what is zero', async () => {
    const pages = fc.uniqueArray(fc.nat({ max: sizeBytes / pageBytes - 1 }), { maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(pages, async (written) => {
        await using directory = await temporaryDirectory();
        const path = join(directory.path, 'ram');
        using ram = createRam(sizeBytes);
        {
          await using file = await open(`/proc/self/fd/${ram.fd}`, 'r+');
          for (const page of written) {
            await file.write(Buffer.alloc(pageBytes, (page % 255) + 1), 0, pageBytes, page * pageBytes);
            // data that is zero counts as a hole
            await file.write(Buffer.alloc(1), 0, 1, ((page + 7) * pageBytes) % sizeBytes);
          }
        }
        const expected = await contentOf(ram.fd);
        const { sha256, storedBytes } = await storeRam(ram, sizeBytes, path, soon());
        expect(storedBytes).to.be.at.most(written.length * pageBytes);
        expect((await stat(path)).size).to.equal(sizeBytes);
        using loaded = await loadRam(path, sizeBytes, sha256, soon());
        if (loaded === undefined) throw new Error('it was not recognised');
        expect((await contentOf(loaded.fd)).equals(expected)).to.equal(true);
      }),
      { numRuns: 15 },
    );
  });

  it('is not accepted with another hash or of another size', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'ram');
    using ram = createRam(sizeBytes);
    const { sha256 } = await storeRam(ram, sizeBytes, path, soon());
    expect(await loadRam(path, sizeBytes, sha256.replace(/^./, 'x'), soon())).to.equal(undefined);
    expect(await loadRam(path, sizeBytes * 2, sha256, soon())).to.equal(undefined);
  });

  it('cannot be written to once it is loaded', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'ram');
    using ram = createRam(sizeBytes);
    const { sha256 } = await storeRam(ram, sizeBytes, path, soon());
    using loaded = await loadRam(path, sizeBytes, sha256, soon());
    await using file = await open(`/proc/self/fd/${loaded?.fd}`, 'r+');
    const failure = await file.write(Buffer.of(1), 0, 1, 0).catch((error: unknown) => error);
    expect(failure).to.have.property('code', 'EPERM');
  });
});

async function contentOf(fd: number): Promise<Buffer> {
  await using file = await open(`/proc/self/fd/${fd}`, 'r');
  return await file.readFile();
}
