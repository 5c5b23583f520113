import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { buildImage, layoutFiles, tarOfDirectory, writeLayout } from './images.ts';

const run = promisify(execFile);
const programs = ['/usr/bin/sqlite3', '/bin/busybox'];

/** An OCI layout at `path` with the host's Debian sqlite3, the libraries that it needs, and a shell; named "sqlite". */
export async function writeSqliteImage(path: string): Promise<void> {
  const tree = await mkdtemp(join(tmpdir(), 'hrun-test-'));
  try {
    const { stdout } = await run('ldd', [programs[0] ?? '']);
    const libraries = [...stdout.matchAll(/(\/\S+) \(0x/g)].map(([, library = '']) => library);
    for (const file of [...programs, ...libraries]) {
      await mkdir(dirname(join(tree, file)), { recursive: true });
      await copyFile(file, join(tree, file));
    }
    const image = buildImage({
      layers: [{ tar: await tarOfDirectory(tree) }],
      config: { Cmd: ['/bin/busybox', 'sh'], Env: ['PATH=/usr/bin:/bin'] },
    });
    await mkdir(path);
    await writeLayout(path, layoutFiles([{ image, name: 'docker.io/library/sqlite:latest' }]));
  } finally {
    await rm(tree, { recursive: true, force: true });
  }
}
