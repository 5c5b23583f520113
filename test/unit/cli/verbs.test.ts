import { expect } from 'chai';
import { HrunError } from '../../../src/base/errors.ts';
import type { ContainerId, Digest } from '../../../src/base/ids.ts';
import { noNetwork } from '../../../src/network/containerNetwork.ts';
import { initialState } from '../../../src/runtime/containerRecord.ts';
import type { ContainerDetails, LogChunk } from '../../../src/runtime/views.ts';
import { aId, imageId, nowMs, runCli } from '../../helpers/cli.ts';

const details: ContainerDetails = {
  record: {
    version: 1,
    id: aId,
    name: 'web',
    createdAt: '2026-01-31T11:00:00Z',
    config: {
      image: 'busybox',
      imageId,
      entrypoint: [],
      cmd: ['sh', '-c', 'x'],
      env: ['A=1'],
      workingDir: '/',
      user: '',
      hostname: 'aaaaaaaaaaaa',
      domainname: '',
      labels: { 'a.b': 'c' },
      openStdin: true,
      terminal: false,
      autoRemove: false,
      init: false,
      stopSignal: 15,
      stopTimeoutS: 10,
      readonlyRootfs: false,
      capAdd: [],
      capDrop: [],
      tmpfs: [],
      binds: [{ source: '/data', destination: '/d', readonly: true, create: true, options: [] }],
      volumes: ['/v'],
      namedVolumes: [
        {
          ...{ name: 'db', destination: '/db', readonly: false, nocopy: false, options: [] },
          ...{ driver: 'disk', anonymous: false },
        },
      ],
      disks: [{ source: '/x.raw', destination: '/x', readonly: true, options: [] }],
      imageMounts: [{ image: 'busybox', imageId: 'sha256:x', destination: '/i' }],
      ulimits: [],
      sysctls: {},
      vmMemoryMiB: 576,
      vcpus: 1,
      storageBytes: 1024,
      kernelPath: '/k',
      initramfsPath: '/i',
      accelerator: 'auto',
      cold: false,
      templateScope: { kind: 'host' },
      network: noNetwork,
    },
    state: { ...initialState, status: 'running', startedAt: '2026-01-31T11:00:01Z' },
  },
  logPath: '/l',
  scratchDiskPath: '/s',
  vmPid: 5,
  pid: 4,
  volumeSources: new Map([['db', { path: '/v/db', driver: 'disk' }]]),
};

const inspectOnly = {
  containers: {
    async inspect(name: string) {
      if (name !== 'web') throw new HrunError('NOT_FOUND', `no such container: ${name}`);
      return details;
    },
  },
  images: {
    async inspect(name: string): Promise<never> {
      throw new HrunError('IMAGE_UNKNOWN', `no such image: ${name}`);
    },
  },
};

describe('hrun inspect', () => {
  it("is Docker's shape with hrun's facts beside it", async () => {
    const { stdout, code } = await runCli(['inspect', 'web'], inspectOnly);
    const [shown] = JSON.parse(stdout);
    expect(code).to.equal(0);
    expect(shown).to.include({ Id: aId, Name: '/web', Path: 'sh', Image: imageId });
    expect(shown.State).to.include({ Status: 'running', Running: true, Pid: 4, VmPid: 5, ExitCode: 0 });
    expect(shown.Config.Labels).to.deep.equal({ 'a.b': 'c' });
    expect(shown.HostConfig).to.deep.include({ Binds: ['/data:/d:ro', 'db:/db'], NanoCpus: 1e9 });
    expect(shown.Mounts[0]).to.include({ Type: 'bind', Source: '/data', Destination: '/d', RW: false });
  });

  it('fills templates', async () => {
    const format =
      '{{.State.Status}} {{index .Config.Labels "a.b"}} {{range .Mounts}}{{.Destination}};{{end}} {{json .Config.Cmd}}';
    expect((await runCli(['inspect', '-f', format, 'web'], inspectOnly)).stdout).to.equal(
      'running c /d;/db;/x;/i;/v; ["sh","-c","x"]\n',
    );
  });

  it('ends as Docker does for a template that cannot be parsed', async () => {
    const code = async (...argv: string[]) => (await runCli(argv, inspectOnly)).code;
    expect(await code('inspect', '-f', '{{', 'web')).to.equal(64);
    expect(await code('version', '--format', '{{nope}}')).to.equal(64);
    expect(await code('inspect', '-f', '{{.Nope}}', 'web')).to.equal(1);
  });

  it('shows what it found and tells the rest', async () => {
    const { stdout, stderr, code } = await runCli(['inspect', 'nope', 'web'], inspectOnly);
    expect([JSON.parse(stdout).length, stderr, code]).to.deep.equal([1, 'hrun: no such object: nope\n', 1]);
    expect((await runCli(['inspect', 'nope'], inspectOnly)).stdout).to.equal('[]\n');
  });
});

describe('verbs on several containers', () => {
  it('do all they can and end with 1 when one failed', async () => {
    const stopped: unknown[] = [];
    const { stdout, stderr, code } = await runCli(['stop', '-t', '3', '-s', 'INT', 'a', 'b', 'c'], {
      containers: {
        async stop(name, options) {
          if (name === 'b') throw new HrunError('NOT_FOUND', 'no such container: b');
          stopped.push([name, options]);
        },
      },
    });
    expect([stdout, stderr, code]).to.deep.equal(['a\nc\n', 'hrun: no such container: b\n', 1]);
    expect(stopped).to.deep.equal([
      ['a', { timeoutS: 3, signalNumber: 2 }],
      ['c', { timeoutS: 3, signalNumber: 2 }],
    ]);
  });

  it('rm -f tells of what is not there, and succeeds', async () => {
    const remove = async () => {
      throw new HrunError('NOT_FOUND', 'no such container: x');
    };
    expect(await runCli(['rm', '-f', 'x'], { containers: { remove } })).to.include({
      code: 0,
      stdout: '',
      stderr: 'hrun: no such container: x\n',
    });
    expect((await runCli(['rm', 'x'], { containers: { remove } })).code).to.equal(1);
  });

  it('kill takes names and numbers of signals', async () => {
    const sent: number[] = [];
    const kill = async (_name: string, signal: number) => void sent.push(signal);
    for (const args of [[], ['-s', 'HUP'], ['-s', 'sigterm'], ['-s', '10'], ['-s', 'RTMIN+3']]) {
      await runCli(['kill', ...args, 'x'], { containers: { kill } });
    }
    expect(sent).to.deep.equal([9, 1, 15, 10, 37]);
    expect((await runCli(['kill', '-s', '65', 'x'])).code).to.equal(1);
  });

  it('wait prints exit codes', async () => {
    const wait = async (name: string) => (name === 'a' ? 0 : 137);
    expect((await runCli(['wait', 'a', 'b'], { containers: { wait } })).stdout).to.equal('0\n137\n');
  });
});

describe('hrun logs', () => {
  async function* chunks(): AsyncGenerator<LogChunk> {
    const timeNs = 1_769_860_800_123_456_789n;
    yield { stream: 'stdout', timeNs, bytes: Buffer.from('one\ntw') };
    yield { stream: 'stderr', timeNs: timeNs + 1n, bytes: Buffer.from('err\n') };
    yield { stream: 'stdout', timeNs: timeNs + 2n, bytes: Buffer.from('o\n') };
  }
  const asked: unknown[] = [];
  const containers = {
    logs(request: unknown) {
      asked.push(request);
      return chunks();
    },
  };

  it('keeps the streams apart', async () => {
    expect(await runCli(['logs', 'web'], { containers })).to.include({
      stdout: 'one\ntwo\n',
      stderr: 'err\n',
      code: 0,
    });
  });

  it('stamps lines, not chunks', async () => {
    const { stdout, stderr } = await runCli(['logs', '-t', 'web'], { containers });
    expect(stdout).to.equal('2026-01-31T12:00:00.123456789Z one\n2026-01-31T12:00:00.123456789Z two\n');
    expect(stderr).to.equal('2026-01-31T12:00:00.123456790Z err\n');
  });

  it('takes times, durations and numbers of lines', async () => {
    asked.length = 0;
    await runCli(['logs', '-f', '--tail', '5', '--since', '10m', '--until', '2026-01-31T11:59:00Z', 'web'], {
      containers,
    });
    await runCli(['logs', '--tail', 'all', '--since', '1769860800', 'web'], { containers });
    expect(asked).to.deep.equal([
      { container: 'web', follow: true, tailLines: 5, sinceMs: nowMs - 600_000, untilMs: nowMs - 60_000 },
      { container: 'web', follow: false, sinceMs: 1_769_860_800_000 },
    ]);
    for (const args of [
      ['--tail', 'x'],
      ['--since', 'yesterday'],
    ]) {
      expect((await runCli(['logs', ...args, 'web'], { containers })).code).to.equal(1);
    }
  });
});

describe('hrun save, load, pull, rmi', () => {
  it('saves to a file under its name only when whole', async () => {
    async function* save() {
      yield Buffer.from('ab');
      yield Buffer.from('c');
    }
    const { written, code } = await runCli(['save', '-o', 'x.tar', 'busybox'], { images: { save } });
    expect([code, [...written]]).to.deep.equal([0, [['x.tar', 'abc']]]);
    async function* broken() {
      yield Buffer.from('ab');
      throw new HrunError('NOT_FOUND', 'gone');
    }
    const failed = await runCli(['save', '-o', 'x.tar', 'busybox'], { images: { save: broken } });
    expect([failed.code, [...failed.written]]).to.deep.equal([1, []]);
  });

  it('saves to stdout, but not to a terminal', async () => {
    async function* save() {
      yield Buffer.from('abc');
    }
    expect((await runCli(['save', 'i'], { images: { save } })).stdout).to.equal('abc');
    const refused = await runCli(['save', 'i'], { images: { save } }, { isTerminal: { stdout: true } });
    expect(refused).to.include({ code: 1, stdout: '' });
  });

  it('loads a file and names what it loaded', async () => {
    const load = async () => [
      { id: imageId, reference: 'docker.io/library/busybox:latest' },
      { id: imageId },
    ];
    const caller = { files: { 'x.tar': 'tar' } };
    expect((await runCli(['load', '-i', 'x.tar'], { images: { load } }, caller)).stdout).to.equal(
      `Loaded image: busybox:latest\nLoaded image ID: ${imageId}\n`,
    );
    const terminal = await runCli(['load'], { images: { load } }, { isTerminal: { stdin: true } });
    expect(terminal.stderr).to.include('expected on stdin');
  });

  it('pulls with lines of progress and says what it has', async () => {
    const { stdout, stderr } = await runCli(['pull', 'busybox'], {
      images: {
        async pull(_request, caller) {
          caller.progress.message('Pulling from library/busybox');
          for (const current of [1, 2])
            caller.progress.part('abc', 'Downloading', { current, total: 2, unit: 'bytes' });
          caller.progress.part('abc', 'Pull complete');
          return { reference: 'docker.io/library/busybox:latest', digest: imageId, upToDate: false };
        },
      },
    });
    expect(stderr).to.equal('Pulling from library/busybox\nabc: Downloading\nabc: Pull complete\n');
    expect(stdout).to.equal(
      `Digest: ${imageId}\nStatus: Downloaded newer image for busybox\ndocker.io/library/busybox:latest\n`,
    );
  });

  it('removes and prunes', async () => {
    const removed = { untagged: ['busybox:latest'], deleted: [imageId] };
    const images = {
      remove: async () => removed,
      prune: async () => ({ ...removed, reclaimedBytes: 4_000_000 }),
    };
    expect((await runCli(['rmi', 'busybox'], { images })).stdout).to.equal(
      `Untagged: busybox:latest\nDeleted: ${imageId}\n`,
    );
    expect((await runCli(['image', 'prune', '-a'], { images })).stdout).to.equal(
      `Deleted Images:\nUntagged: busybox:latest\nDeleted: ${imageId}\n\nTotal reclaimed space: 4MB\n`,
    );
  });
});

describe('hrun version, doctor, daemon', () => {
  const versions = async () => ({ qemuVersion: '7.2.22', kernelVersion: '6.12.1' });

  it('tells versions, also when nothing can run', async () => {
    const system = { versions };
    expect((await runCli(['version'], { system })).stdout).to.include('QEMU:          7.2.22');
    expect((await runCli(['version', '-f', '{{.Server.Kernel}}'], { system })).stdout).to.equal('6.12.1\n');
    expect((await runCli(['--version'], { system })).stdout).to.include('1.2.3');
    const broken = async () => {
      throw new HrunError('QEMU_MISSING', 'no QEMU');
    };
    expect((await runCli(['version'], { system: { versions: broken } })).stdout).to.include('not found');
  });

  it('doctor ends with 1 when something fails', async () => {
    async function* doctor() {
      yield { name: 'qemu', status: 'ok', detail: 'there' } as const;
      yield { name: 'kernel', status: 'fail', detail: 'missing', remedy: 'build it' } as const;
    }
    const { stdout, code } = await runCli(['doctor'], { system: { doctor } });
    expect(code).to.equal(1);
    expect(stdout).to.equal(
      'ok    qemu                    there\nfail  kernel                  missing\n                              → build it\n',
    );
  });

  it('daemon stop refuses while containers run, unless forced', async () => {
    let stops = 0;
    let killed = 0;
    const caller = {
      stopped: () => {
        stops += 1;
      },
    };
    const system = {
      running: () => [aId] as readonly ContainerId[],
      killAll: async () => {
        killed += 1;
        return [aId];
      },
    };
    const refused = await runCli(['daemon', 'stop'], { system }, caller);
    expect([refused.code, refused.stderr, stops]).to.deep.equal([
      1,
      'hrun: 1 container still running\nhint: stop them first, or kill them with --force\n',
      0,
    ]);
    expect((await runCli(['daemon', 'stop', '-f'], { system }, caller)).code).to.equal(0);
    expect((await runCli(['daemon', 'stop'], { system: { running: () => [] } }, caller)).code).to.equal(0);
    expect([stops, killed]).to.deep.equal([2, 1]);
  });
});

describe('the command line', () => {
  it('has help for itself, groups and every verb', async () => {
    for (const argv of [[], ['--help'], ['-h'], ['help']]) {
      expect((await runCli(argv)).stdout).to.include('Usage:  hrun COMMAND');
    }
    expect((await runCli(['image', '--help'])).stdout).to.include('prune');
    expect((await runCli(['help', 'image', 'ls'])).stdout).to.include('List images');
    const { stdout } = await runCli(['run', '--help']);
    expect(stdout)
      .to.include('Usage:  hrun run [OPTIONS] IMAGE')
      .and.include('(always, missing, never; default: missing)');
    expect(await runCli(['image'])).to.include({ code: 0, stdout: '' });
  });

  it('names what it does not know', async () => {
    const cases: readonly (readonly [string[], string])[] = [
      [['nope'], "hrun: unknown command: hrun nope\nSee 'hrun --help'.\n"],
      [['imgaes'], "hrun: unknown command: hrun imgaes\nDid you mean 'images'?\nSee 'hrun --help'.\n"],
      [
        ['info', 'x'],
        'hrun: "hrun info" accepts no arguments\nUsage:  hrun info [OPTIONS]\nSee \'hrun info --help\'.\n',
      ],
    ];
    for (const [argv, message] of cases) {
      expect(await runCli(argv)).to.include({ code: 1, stdout: '', stderr: message });
    }
    expect((await runCli(['ps', '--nope'])).code).to.equal(125);
  });

  it('lets a fault of its own through', async () => {
    const list = async (): Promise<never> => {
      throw new TypeError('a bug');
    };
    const outcome = await runCli(['ps'], { containers: { list } }).catch((error: unknown) => error);
    expect(outcome).to.be.instanceOf(TypeError);
  });

  it('has aliases', async () => {
    const list = async () => [];
    expect((await runCli(['container', 'ls', '-q'], { containers: { list } })).code).to.equal(0);
    const images = { tag: async () => {}, import: async () => imageId as Digest };
    expect((await runCli(['image', 'tag', 'a', 'b'], { images })).code).to.equal(0);
  });
});
