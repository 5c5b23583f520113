import { enableCompileCache } from 'node:module';
import { join } from 'node:path';

/** The keeper gives the listening socket and its lifeline under these numbers (docs/wire.md, "Keeper"). */
const listenerFd = 3;
const lifelineFd = 4;

// Filled by the build, beside the code; before anything large is loaded.
enableCompileCache(join(import.meta.dirname, 'compile-cache'));

const { pathsFrom } = await import('../base/paths.ts');
const { runDaemon } = await import('./start.ts');

const stop = new AbortController();
process.on('SIGTERM', () => stop.abort());
process.on('SIGINT', () => stop.abort());
try {
  const options = {
    paths: pathsFrom(process.env, process.getuid?.() ?? 0),
    codeDir: import.meta.dirname,
    listen: { fd: listenerFd },
    lifeline: lifelineFd,
    searchPath: process.env.PATH ?? '',
  };
  await runDaemon(options, stop.signal);
  process.exit(0);
} catch (error) {
  process.stderr.write(`hrund: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exit(1);
}
