import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { buildImage, layoutFiles, tarOfDirectory, writeLayout } from './images.ts';

const run = promisify(execFile);
const shell = '/bin/busybox';

/** An OCI layout at `path` with this program of the host, the libraries that it needs, and a shell; called as the program. */
export async function writeToolImage(path: string, program: string): Promise<void> {
  const tree = await mkdtemp(join(tmpdir(), 'hrun-test-'));
  try {
    const { stdout } = await run('ldd', [program]);
    const libraries = [...stdout.matchAll(/(\/\S+) \(0x/g)].map(([, library = '']) => library);
    for (const file of [program, shell, ...libraries]) {
      await mkdir(dirname(join(tree, file)), { recursive: true });
      await copyFile(file, join(tree, file));
    }
    await mkdir(join(tree, 'tmp'));
    const image = buildImage({
      layers: [{ tar: await tarOfDirectory(tree) }],
      config: { Cmd: [shell, 'sh'], Env: ['PATH=/usr/bin:/bin'] },
    });
    await mkdir(path);
    const name = `docker.io/library/${basename(program)}:latest`;
    await writeLayout(path, layoutFiles([{ image, name }]));
  } finally {
    await rm(tree, { recursive: true, force: true });
  }
}
