import { execFile } from 'node:child_process';
import { access, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { buildImage, layoutFiles, tarOfDirectory, writeLayout } from './images.ts';

const run = promisify(execFile);
const suite = 'bookworm';
const mirror = 'http://deb.debian.org/debian';
/** Part of the cache's key; counts up with every change of what is made here. */
const recipe = 1;

export interface DebianImage {
  /** OCI layout with one gzip layer, under the ref name "debian". */
  readonly layout: string;
  /** Contents of /etc/debian_version. */
  readonly version: string;
}

/** A real Debian system, made by debootstrap once and kept outside the checkout. */
export async function debianImage(): Promise<DebianImage> {
  const cache = join(process.env.HRUN_CACHE_DIR ?? join(homedir(), '.cache/hrun'), 'test');
  const path = join(cache, `debian-${suite}-${recipe}`);
  const layout = join(path, 'layout');
  const there = await access(layout).then(
    () => true,
    () => false,
  );
  if (!there) {
    await mkdir(cache, { recursive: true });
    const work = await mkdtemp(join(cache, 'making-'));
    try {
      await make(work);
      await rename(join(work, 'made'), path);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }
  return { layout, version: (await readFile(join(path, 'debian_version'), 'utf8')).trim() };
}

async function make(work: string): Promise<void> {
  const tree = join(work, 'tree');
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
  await run('debootstrap', ['--variant=minbase', suite, tree, mirror], { env, maxBuffer: 2 ** 26 });
  await rm(join(tree, 'var/cache/apt/archives'), { recursive: true });
  const image = buildImage({
    layers: [{ tar: await tarOfDirectory(tree) }],
    config: { Cmd: ['bash'], Env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'] },
  });
  const made = join(work, 'made');
  await mkdir(made);
  await writeLayout(join(made, 'layout'), layoutFiles([{ image, name: 'debian' }]));
  await run('cp', [join(tree, 'etc/debian_version'), made]);
}
