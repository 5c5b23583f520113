import { execFile } from 'node:child_process';
import { openSync } from 'node:fs';
import { access, type FileHandle, open, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { pathsFrom } from '../../../src/base/paths.ts';
import { onceItWorks } from '../../../src/daemon/onceItWorks.ts';
import { runDaemon } from '../../../src/daemon/start.ts';
import type { Engine } from '../../../src/runtime/engine.ts';
import { FakeFrontDoor } from '../../helpers/frontDoor.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

const emptyEngine = {
  containers: { list: async () => [] },
  images: {},
  system: { running: () => [] },
} as unknown as Engine;

async function startDaemon(config = '{"logLevel": "silent"}') {
  await using stack = new AsyncDisposableStack();
  const directory = stack.use(await temporaryDirectory());
  const at = (name: string) => join(directory.path, name);
  const paths = pathsFrom({ HRUN_ROOT: at('root'), HRUN_RUN: at('run'), HRUN_CONFIG: at('config.json') }, 0);
  await writeFile(paths.configFile, config);
  const stop = new AbortController();
  const options = { paths, codeDir: at(''), listen: { path: at('socket') }, searchPath: '' };
  const ended = runDaemon({ ...options, openEngine: async () => emptyEngine }, stop.signal);
  stack.defer(async () => {
    stop.abort();
    await ended;
  });
  const serving = async (): Promise<void> => {
    for (;;) {
      const ready = await access(paths.daemonFacts).then(
        () => true,
        () => false,
      );
      if (ready) return;
      await new Promise((wake) => setImmediate(wake));
    }
  };
  await Promise.race([serving(), ended]);
  const owned = stack.move();
  return {
    paths,
    ended,
    stop: () => stop.abort(),
    call: (...argv: string[]) => FakeFrontDoor.call(at('socket'), { argv }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** A descriptor of its own, since the daemon closes what it is given. */
async function fdOf(pipe: string, reader: FileHandle): Promise<number> {
  const fd = openSync(pipe, 'r');
  await reader.close();
  return fd;
}

describe('the daemon', () => {
  it('serves commands and says who it is', async () => {
    await using daemon = await startDaemon();
    const front = daemon.call('ps', '-q');
    expect(await front.outcome).to.deep.equal({ code: 0 });
    const facts = JSON.parse(await readFile(daemon.paths.daemonFacts, 'utf8'));
    expect(facts).to.include({ pid: process.pid });
    const status = daemon.call('daemon', 'status', '--format', 'json');
    await status.outcome;
    expect(JSON.parse(status.stdout.toString())).to.include({ pid: process.pid, activeCommands: 0 });
  });

  it('ends when told to, after the answer, and takes its facts along', async () => {
    await using daemon = await startDaemon();
    const front = daemon.call('daemon', 'stop');
    expect(await front.outcome).to.deep.equal({ code: 0 });
    await daemon.ended;
    expect(await readdir(daemon.paths.run)).to.not.include('hrund.json');
  });

  it('ends on its signal', async () => {
    await using daemon = await startDaemon();
    daemon.stop();
    await daemon.ended;
  });

  it('rejects when its keeper is gone', async () => {
    await using directory = await temporaryDirectory();
    const at = (name: string) => join(directory.path, name);
    const paths = pathsFrom({ HRUN_ROOT: at('root'), HRUN_RUN: at('run'), HRUN_CONFIG: at('c') }, 0);
    await writeFile(paths.configFile, '{"logLevel": "silent"}');
    // A pipe whose writer is gone already: opened by both ends first, since opening one waits for the other.
    const pipe = at('pipe');
    await promisify(execFile)('mkfifo', [pipe]);
    const [reader, writer] = await Promise.all([open(pipe, 'r'), open(pipe, 'w')]);
    const lifeline = await fdOf(pipe, reader);
    await writer.close();
    const options = { paths, codeDir: at(''), listen: { path: at('socket') }, lifeline, searchPath: '' };
    const outcome = await runDaemon(
      { ...options, openEngine: async () => emptyEngine },
      new AbortController().signal,
    ).catch((error: Error) => error.message);
    expect(outcome).to.equal('the keeper is gone');
  });
});

describe('what is done once it works', () => {
  it('is tried again after a failure, and never after a success', async () => {
    let attempts = 0;
    const open = onceItWorks(async () => {
      attempts += 1;
      if (attempts === 1) throw new Error('not yet');
      return attempts;
    });
    const first = await Promise.allSettled([open(), open()]);
    expect(first.map(({ status }) => status)).to.deep.equal(['rejected', 'rejected']);
    expect(await Promise.all([open(), open()])).to.deep.equal([2, 2]);
    expect(attempts).to.equal(2);
  });
});
