import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, cp, link, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';

/**
 * Makes libexec of the distribution named as argument (default: dist): the daemon as one entry and its chunks, the
 * Node.js that runs it, koffi (native, so it cannot be bundled) and V8's compile cache of all of it. With
 * `--crash-points` it is one for the tests of crashes (src/base/crashPoint.ts).
 */
const root = join(import.meta.dirname, '..');
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { 'crash-points': { type: 'boolean', default: false } },
});
const libexec = join(resolve(positionals[0] ?? join(root, 'dist')), 'libexec');
/** Chunks of earlier builds are kept this long: a daemon that runs loads its own, by the hash in their names. */
const keepChunksMs = 24 * 3600 * 1000;
/** Some dependencies are CommonJS and call `require` at run time. */
const banner =
  "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);";

const { outputFiles } = await build({
  entryPoints: { hrund: join(root, 'src/daemon/main.ts') },
  outdir: libexec,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  splitting: true,
  chunkNames: 'chunks/[name]-[hash]',
  format: 'esm',
  platform: 'node',
  target: 'node24',
  external: ['koffi'],
  define: { HRUN_CRASH_POINTS: String(values['crash-points']) },
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: 'none',
  banner: { js: banner },
  logLevel: 'warning',
  write: false,
});
const entry = join(libexec, 'hrund.mjs');
const chunks = outputFiles.filter(({ path }) => path !== entry);
await mkdir(join(libexec, 'chunks'), { recursive: true });
await placeNode();
await placeKoffi();
for (const { path, contents } of chunks) await replaceFile(path, contents);
await warmCompileCache();
for (const { path, contents } of outputFiles) if (path === entry) await replaceFile(path, contents);
await forgetOldChunks();

/** Nobody sees a half file: a daemon may start at any moment. */
async function replaceFile(path: string, contents: Uint8Array): Promise<void> {
  await writeFile(`${path}.new`, contents);
  await rename(`${path}.new`, path);
}

async function forgetOldChunks(): Promise<void> {
  const current = new Set(chunks.map(({ path }) => path));
  for (const name of await readdir(join(libexec, 'chunks'))) {
    const path = join(libexec, 'chunks', name);
    const isOld = !current.has(path) && Date.now() - (await stat(path)).mtimeMs > keepChunksMs;
    if (isOld) await rm(path);
  }
}

/** A hard link costs nothing; another file system gets a copy. */
async function placeNode(): Promise<void> {
  const target = join(libexec, 'node');
  await rm(`${target}.new`, { force: true });
  await link(process.execPath, `${target}.new`).catch(() => copyFile(process.execPath, `${target}.new`));
  await rename(`${target}.new`, target);
}

/** The JavaScript of koffi and the one native library of this platform. */
async function placeKoffi(): Promise<void> {
  const modules = join(libexec, 'node_modules');
  const koffi = join(root, 'node_modules/koffi');
  const { optionalDependencies = {} }: { optionalDependencies?: Record<string, string> } = JSON.parse(
    await readFile(join(koffi, 'package.json'), 'utf8'),
  );
  const names = ['koffi', ...Object.keys(optionalDependencies)];
  for (const name of names) {
    const from = name === 'koffi' ? koffi : join(koffi, '..', name);
    await cp(from, join(modules, name), { recursive: true, filter: isNeeded }).catch((error: unknown) => {
      // Packages of other platforms are not installed.
      if (name === 'koffi') throw error;
    });
  }
}

/** Sources and documentation of koffi are most of its size. */
function isNeeded(path: string): boolean {
  return (
    !/node_modules\/koffi\/(vendor|doc|lib)(\/|$)/.test(path) && !/\.(cc|hh|h|c|S|asm|inc|md)$/.test(path)
  );
}

/** Loads every chunk once with the compile cache on, in the Node.js that will run it. */
async function warmCompileCache(): Promise<void> {
  const script = join(libexec, 'warm.mjs');
  const imports = chunks.map(({ path }) => `await import(${JSON.stringify(path)});`).join('\n');
  await writeFile(
    script,
    `import { enableCompileCache, flushCompileCache } from 'node:module';
enableCompileCache(${JSON.stringify(join(libexec, 'compile-cache'))});
${imports}
flushCompileCache();
process.exit(0);
`,
  );
  const child = spawn(join(libexec, 'node'), [script], { stdio: 'inherit' });
  const [code] = await once(child, 'exit');
  await rm(script);
  if (code !== 0) throw new Error(`loading the bundle ended with ${code}`);
}
