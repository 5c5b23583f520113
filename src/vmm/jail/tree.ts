import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmod,
  constants,
  copyFile,
  mkdir,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
} from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { errnoOf } from '../../base/errors.ts';
import { createFlights } from '../../base/flights.ts';
import { parseStateText, writeStateFile } from '../../base/stateFile.ts';
import { librariesOf } from './libraries.ts';

/** To be raised when trees of older code must not be used any more. */
const formatVersion = 1;
/** What of QEMU's data is for a microvm, with an accelerator of either kind. */
const roms = ['qboot.rom', 'bios-microvm.bin', 'kvmvapic.bin', 'linuxboot_dma.bin', 'pvh.bin'];
/** Loaded by QEMU while it starts, from a directory that it finds relative to itself. */
const modules = /^accel-tcg-.*\.so$/;
const moduleDirs = ['lib/x86_64-linux-gnu/qemu', 'lib/aarch64-linux-gnu/qemu', 'lib64/qemu', 'lib/qemu'];

/** Nobody takes so long to make a tree. */
const unfinishedMs = 3_600_000;
/** Where `preloadPath` is in the tree. */
const preloadAt = '/usr/lib/hrun-preload.so';

/** The file system that QEMU sees: its files and nothing else, each where it is on the host. */
export interface JailTree {
  readonly root: string;
  /** QEMU's path in the tree. */
  readonly program: string;
  /** Of what is loaded into QEMU, likewise. */
  readonly preload: string | undefined;
}

export interface TreeRequest {
  readonly qemuPath: string;
  /** Loaded into QEMU. */
  readonly preloadPath: string | undefined;
  readonly treesDir: string;
}

const Manifest = z.object({
  /** Files of the host that were copied, as they were then. */
  sources: z.array(z.object({ path: z.string(), at: z.string(), identity: z.string(), size: z.int() })),
});
type Manifest = z.infer<typeof Manifest>;

const building = createFlights<void, never>();
/** A tree that was whole and current stays good for this daemon, also when the host's libraries change under it. */
const checkedOnce = new Set<string>();

/**
 * The tree for this state of QEMU and of all its libraries: copied once, so that an upgrade of the host changes nothing
 * below a QEMU that runs, and used by every launch.
 * @throws HrunError INTERNAL when the libraries cannot be found out, or a system error such as ENOENT, ENOSPC
 */
export async function prepareTree(request: TreeRequest, signal: AbortSignal): Promise<JailTree> {
  const key = await keyOf(request);
  const path = join(request.treesDir, key);
  const program = await realpath(request.qemuPath);
  const preload = request.preloadPath === undefined ? undefined : preloadAt;
  if (!checkedOnce.has(path) || !(await isThere(join(path, 'manifest.json')))) {
    await building.join(
      path,
      async (_, until) => {
        if (!(await isCurrent(path))) await build(path, program, request, until);
      },
      () => {},
      signal,
    );
    checkedOnce.add(path);
  }
  return { root: join(path, 'root'), program, preload };
}

async function keyOf({ qemuPath, preloadPath }: TreeRequest): Promise<string> {
  const facts = [formatVersion, process.geteuid?.(), await identityOf(qemuPath)];
  if (preloadPath !== undefined) facts.push(await identityOf(preloadPath));
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex').slice(0, 32);
}

async function isThere(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}

/** Whether every file is still the one that was copied, and every copy whole. */
async function isCurrent(path: string): Promise<boolean> {
  const { data } = Manifest.safeParse(await readManifest(path));
  if (data === undefined) return false;
  const current = await Promise.all(
    data.sources.map(async (source) => {
      const identity = await identityOf(source.path).catch(() => '');
      const copy = await stat(join(path, 'root', source.at)).catch(() => undefined);
      return identity === source.identity && copy?.size === source.size;
    }),
  );
  return current.every(Boolean);
}

/** One that is missing or damaged is made again, with the tree. */
async function readManifest(path: string): Promise<unknown> {
  try {
    return parseStateText(await readFile(join(path, 'manifest.json'), 'utf8'));
  } catch {
    return undefined;
  }
}

async function build(
  path: string,
  program: string,
  { preloadPath, treesDir }: TreeRequest,
  signal: AbortSignal,
): Promise<void> {
  await mkdir(treesDir, { recursive: true, mode: 0o700 });
  const unfinished = join(treesDir, `new-${randomBytes(8).toString('hex')}`);
  try {
    const root = join(unfinished, 'root');
    await makeDirectory(root, '/proc');
    await makeDirectory(root, '/dev');
    const manifest: Manifest = { sources: [] };
    for (const source of await sourcesOf(program, preloadPath, signal)) {
      signal.throwIfAborted();
      const at = source === preloadPath ? preloadAt : source;
      await makeDirectory(root, dirname(at));
      const copy = join(root, at);
      await copyFile(source, copy, constants.COPYFILE_FICLONE);
      await chmod(copy, source === program ? programMode() : 0o755);
      const { size } = await stat(copy);
      manifest.sources.push({ path: source, at, identity: await identityOf(source), size });
    }
    await writeStateFile(join(unfinished, 'manifest.json'), manifest);
    await replace(path, unfinished, treesDir);
    await removeStale(treesDir);
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
}

/** A program that its user cannot read is not dumpable (execve(2)): not even who had the same user could attach to it. */
function programMode(): number {
  return process.geteuid?.() === 0 ? 0o711 : 0o755;
}

async function sourcesOf(
  program: string,
  preloadPath: string | undefined,
  signal: AbortSignal,
): Promise<Set<string>> {
  const loaded = [program, ...(await modulesOf(program))];
  if (preloadPath !== undefined) loaded.push(preloadPath);
  const libraries = await Promise.all(loaded.map((path) => librariesOf(path, signal)));
  return new Set([...loaded, ...libraries.flat(), ...(await romsOf(program, signal))]);
}

async function modulesOf(program: string): Promise<string[]> {
  for (const directory of moduleDirs) {
    const path = join(dirname(program), '..', directory);
    const names = await readdir(path).catch(() => []);
    const found = names.filter((name) => modules.test(name));
    if (found.length > 0) return found.map((name) => join(path, name));
  }
  return [];
}

async function romsOf(program: string, signal: AbortSignal): Promise<string[]> {
  const { stdout } = await promisify(execFile)(program, ['-L', 'help'], { signal });
  const directories = stdout.split('\n').filter((line) => line.startsWith('/'));
  const paths = roms.map(async (name) => {
    for (const directory of directories) {
      const path = join(normalize(directory), name);
      if ((await identityOf(path).catch(() => undefined)) !== undefined) return [path];
    }
    return [];
  });
  return (await Promise.all(paths)).flat();
}

async function makeDirectory(root: string, path: string): Promise<void> {
  await mkdir(join(root, path), { recursive: true });
  for (let at = path; ; at = dirname(at)) {
    // the umask is not for whoever looks from inside
    await chmod(join(root, at), 0o755);
    if (at === '/') return;
  }
}

/** One that is there was of other libraries, or another process made the same at this moment. */
async function replace(path: string, unfinished: string, treesDir: string): Promise<void> {
  const doomed = join(treesDir, `old-${randomBytes(8).toString('hex')}`);
  await rename(path, doomed).catch((error: unknown) => {
    if (errnoOf(error) !== 'ENOENT') throw error;
  });
  await rename(unfinished, path).catch(async (error: unknown) => {
    if (!['ENOTEMPTY', 'EEXIST'].includes(errnoOf(error) ?? '') || !(await isCurrent(path))) throw error;
  });
  // what runs in it has its files open
  await rm(doomed, { recursive: true, force: true });
}

/** Trees of what the host no longer has, and what was left half made long ago. */
async function removeStale(treesDir: string): Promise<void> {
  for (const name of await readdir(treesDir)) {
    const path = join(treesDir, name);
    const isTree = /^[0-9a-f]{32}$/.test(name);
    const stale = isTree ? !(await isCurrent(path)) : await isOlderThan(path, unfinishedMs);
    if (stale) await rm(path, { recursive: true, force: true });
  }
}

async function isOlderThan(path: string, ageMs: number): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found !== undefined && found.mtimeMs < Date.now() - ageMs;
}

/** Changes when the file is replaced or written to. */
async function identityOf(path: string): Promise<string> {
  const { dev, ino, size, mtimeMs } = await stat(path);
  return [path, dev, ino, size, mtimeMs].join(':');
}
