import { expect } from 'chai';
import type { CreateRequest, RunRequest } from '../../../src/runtime/runRequest.ts';
import { aId, type CommandOutcome, type FakeCaller, runCli } from '../../helpers/cli.ts';

/** What `hrun run …` asks of the engine. */
async function requestOf(args: readonly string[], caller: FakeCaller = {}): Promise<RunRequest> {
  const asked: RunRequest[] = [];
  const outcome = await runCli(
    ['run', ...args],
    {
      containers: {
        async run(request) {
          asked.push(request);
          return { kind: 'exited', containerId: aId, exitCode: 0 };
        },
      },
    },
    caller,
  );
  const [request] = asked;
  if (request === undefined) throw new Error(outcome.stderr);
  return request;
}

const createOf = async (args: readonly string[], caller?: FakeCaller): Promise<CreateRequest> =>
  (await requestOf(args, caller)).create;

const refusalOf = (args: readonly string[], caller?: FakeCaller): Promise<CommandOutcome> =>
  runCli(['run', ...args], {}, caller);

describe('hrun run', () => {
  it('takes the network of another container', async () => {
    const { network } = await createOf(['--network', 'container:web', 'i']);
    expect(network).to.include({ none: false, sharedWith: 'web' });
    expect(network.connections).to.deep.equal([]);
  });

  it('takes an image and nothing else', async () => {
    expect(await requestOf(['busybox'])).to.deep.equal({
      create: {
        image: 'busybox',
        command: [],
        openStdin: false,
        terminal: false,
        autoRemove: false,
        init: false,
        environment: [],
        labels: {},
        binds: [],
        anonymousVolumes: [],
        namedVolumes: [],
        disks: [],
        imageMounts: [],
        tmpfs: [],
        readonlyRootfs: false,
        capAdd: [],
        capDrop: [],
        ulimits: [],
        sysctls: {},
        cold: false,
        network: {
          none: false,
          connections: [],
          ports: [],
          publishAll: false,
          expose: [],
          dns: [],
          dnsSearch: [],
          dnsOptions: [],
          extraHosts: [],
        },
        pull: 'missing',
        insecure: false,
      },
      detach: false,
      signalProxy: true,
      timing: false,
    });
  });

  it('leaves everything after the image to the workload', async () => {
    const { command, terminal } = await createOf(['--rm', 'busybox', 'ls', '-l', '--tty=false', '--', '-t']);
    expect(command).to.deep.equal(['ls', '-l', '--tty=false', '--', '-t']);
    expect(terminal).to.equal(false);
  });

  it('reads clusters, attached values and Go booleans', async () => {
    const caller = { isTerminal: { stdin: true } };
    const request = await requestOf(
      ['-it', '-eA=b', '--rm=true', '--read-only=false', '--sig-proxy=false', 'i'],
      caller,
    );
    expect(request.create).to.include({
      openStdin: true,
      terminal: true,
      autoRemove: true,
      readonlyRootfs: false,
    });
    expect(request.signalProxy).to.equal(false);
    expect((await createOf(['-ite', 'A=b', 'i'], caller)).environment).to.deep.equal([
      { name: 'A', value: 'b' },
    ]);
  });

  it('does not take the value of an option for a boolean', async () => {
    expect((await createOf(['--name', 'web', '-e', '--tty=false', 'i'])).environment).to.deep.equal([
      { name: '--tty', value: 'false' },
    ]);
  });

  it('takes variables from flags, files and the own environment, in this order', async () => {
    const caller = {
      environment: { HOME: '/root', SECRET: 's' },
      files: { 'a.env': '# note\n\nX=1\n  Y= spaced \r\nSECRET\nUNSET\n' },
    };
    const { environment } = await createOf(
      ['-e', 'X=2', '-e', 'HOME', '-e', 'NONE', '--env-file', 'a.env', 'i'],
      caller,
    );
    expect(environment).to.deep.equal([
      { name: 'X', value: '1' },
      { name: 'Y', value: ' spaced ' },
      { name: 'SECRET', value: 's' },
      { name: 'X', value: '2' },
      { name: 'HOME', value: '/root' },
      { name: 'NONE', value: undefined },
    ]);
  });

  const plain = { create: true, options: [] };

  it('takes volumes, relative ones from the own directory', async () => {
    const create = await createOf(
      [
        '-v',
        '/data:/d:ro',
        '-v',
        './src:/s/',
        '-v',
        '../up:/u:rw,z',
        '-v',
        '/anon',
        '--tmpfs',
        '/run:size=64m,mode=1777',
        'i',
      ],
      { cwd: '/home/me' },
    );
    expect(create.binds).to.deep.equal([
      { source: '/data', destination: '/d', readonly: true, ...plain },
      { source: '/home/me/src', destination: '/s', readonly: false, ...plain },
      { source: '/home/up', destination: '/u', readonly: false, ...plain },
    ]);
    expect(create.anonymousVolumes).to.deep.equal(['/anon']);
    expect(create.tmpfs).to.deep.equal([{ destination: '/run', options: ['size=64m', 'mode=1777'] }]);
  });

  it('takes limits and the shape of the VM', async () => {
    const create = await createOf([
      ...['-m', '1.5g', '--cpus', '1.5', '--storage-size', '4g', '--pids-limit', '100', '--shm-size', '128m'],
      ...[
        '--kernel',
        'k/vmlinux',
        '--accel',
        'tcg',
        '--cold',
        '--allow-weaker-jail',
        'network',
        '--allow-weaker-jail=uid',
        '--stop-signal',
        'QUIT',
        '--stop-timeout',
        '3',
      ],
      ...['--ulimit', 'nofile=10:20', '--ulimit', 'core=-1', '--sysctl', 'net.ipv4.ip_forward=1', 'i'],
    ]);
    expect(create).to.include({
      memoryBytes: 1.5 * 1024 ** 3,
      cpus: 1.5,
      storageBytes: 4 * 1024 ** 3,
      pidsLimit: 100,
      shmSizeBytes: 128 * 1024 ** 2,
      kernelPath: '/home/user/k/vmlinux',
      accelerator: 'tcg',
      cold: true,
      stopSignal: 3,
      stopTimeoutS: 3,
    });
    expect(create.allowWeakerJail).to.deep.equal(['network', 'uid']);
    expect(create.ulimits).to.deep.equal([
      { type: 'RLIMIT_NOFILE', soft: 10, hard: 20 },
      { type: 'RLIMIT_CORE', soft: -1, hard: -1 },
    ]);
    expect(create.sysctls).to.deep.equal({ 'net.ipv4.ip_forward': '1' });
  });

  it('takes identity, labels, capabilities and platform', async () => {
    const create = await createOf(
      [
        ...[
          '--name',
          'web.1',
          '-h',
          'web',
          '-u',
          '1000:users',
          '-w',
          '/app/',
          '--entrypoint',
          'sh',
          '-l',
          'a=b=c',
        ],
        ...['-l', 'flag', '--label-file', 'labels', '--cap-add', 'net_admin', '--cap-drop', 'all'],
        ...['--platform', 'linux/arm64/v8', '--pull', 'always', '--insecure', 'i', 'x'],
      ],
      { files: { labels: 'from=file\n' } },
    );
    expect(create).to.deep.include({
      name: 'web.1',
      hostname: 'web',
      user: '1000:users',
      workingDir: '/app/',
      entrypoint: ['sh'],
      labels: { from: 'file', a: 'b=c', flag: '' },
      capAdd: ['CAP_NET_ADMIN'],
      capDrop: ['ALL'],
      platform: { os: 'linux', architecture: 'arm64', variant: 'v8' },
      pull: 'always',
      insecure: true,
      command: ['x'],
    });
  });

  it('clears the entrypoint with an empty one', async () => {
    expect((await createOf(['--entrypoint', '', 'i', 'ls'])).entrypoint).to.deep.equal([]);
  });

  for (const [args, message] of [
    [['--nope', 'i'], "unknown option '--nope'"],
    [['--nam', 'x', 'i'], "unknown option '--nam' (did you mean --name?)"],
    [['-e', '=x', 'i'], 'invalid environment variable'],
    [['-v', 'a/b:/x', 'i'], 'includes invalid characters for a volume name'],
    [['-v', 'n:/x', 'i'], 'volume name is too short'],
    [['-v', '/a:/x:rshared', 'i'], 'propagation "rshared" is not supported'],
    [['-v', '/a:/x:nocopy', 'i'], 'nocopy is for named volumes'],
    [['--mount', 'type=bind,src=/a,dst=/x,evil=1', 'i'], "unexpected key 'evil' in 'evil=1'"],
    [['--mount', 'type=bind,src=/a,dst=/x', '-v', '/b:/x', 'i'], 'duplicate mount point: /x'],
    [['-v', '/a:b', 'i'], 'it must be absolute'],
    [['-v', '/a:/', 'i'], "it can't be /"],
    [['-v', '/a:/b:zz', 'i'], 'unknown option "zz"'],
    [['-v', '/a:/b:ro:x', 'i'], 'malformed'],
    [['-v', '/a:/x', '--tmpfs', '/x', 'i'], 'duplicate mount point: /x'],
    [['--tmpfs', '/x:size=1,evil opt', 'i'], 'invalid option'],
    [['-m', 'lots', 'i'], 'is not a size'],
    [['--cpus', '0', 'i'], 'invalid number of CPUs'],
    [['--cpus', '-1', 'i'], 'invalid number of CPUs'],
    [['--name', 'x', 'i'], 'invalid container name'],
    [['--name', '-x', 'i'], 'invalid container name'],
    [['--cap-add', 'FLY', 'i'], 'unknown capability'],
    [['--ulimit', 'nofile=9:1', 'i'], 'above the hard limit'],
    [['--ulimit', 'fun=1', 'i'], 'invalid ulimit'],
    [['--stop-signal', 'NOPE', 'i'], 'invalid signal'],
    [['--network', 'host', 'i'], 'cannot have the network of the host'],
    [['--network', 'container:', 'i'], 'invalid container format container:<name|id>'],
    [['--network', 'container:a', '--network', 'b', 'i'], 'cannot be connected to any other network'],
    [['-w', 'rel', 'i'], 'must be absolute'],
    [['-u', 'a b', 'i'], 'invalid user'],
    [['-h', 'bad_host!', 'i'], 'invalid host name'],
    [['--platform', 'windows/amd64', 'i'], 'invalid platform'],
    [['--tty=maybe', 'i'], 'not true or false'],
    [['--detach-keys', 'ctrl-1', '-it', 'i'], 'unknown key'],
    [[''], 'invalid image name'],
    [['--allow-weaker-jail', 'roof', 'i'], '"roof" is no step of the jail'],
    ...(
      [
        ['-p', '80:80', 'conflicting options: port publishing and the container type network mode'],
        ['-P', '--rm', 'conflicting options: port publishing and the container type network mode'],
        ['--expose', '80', 'conflicting options: port exposing and the container type network mode'],
        ['--hostname', 'h', 'conflicting options: hostname and the network mode'],
        ['--dns', '192.0.2.1', 'conflicting options: dns and the network mode'],
        ['--add-host', 'a:192.0.2.1', 'conflicting options: custom host-to-IP mapping and the network mode'],
        ['--mac-address', '02:00:00:00:00:09', 'conflicting options: mac-address and the network mode'],
        ['--ip', '192.0.2.1', 'user specified IP address is supported on user defined networks only'],
        ['--network-alias', 'a', 'network-scoped alias is supported only for containers'],
        ['--egress', 'none', 'conflicting options: --egress and the container type network mode'],
        ['--cold', '--rm', 'conflicting options: --cold and the container type network mode'],
      ] as const
    ).map(([option, value, message]) => [['--network', 'container:a', option, value, 'i'], message] as const),
  ] as const) {
    it(`refuses ${args.join(' ') || 'no image'} with 125`, async () => {
      const { code, stderr, stdout } = await refusalOf(args);
      expect(stderr).to.include(message);
      expect(stderr.startsWith('hrun: ')).to.equal(true);
      expect([code, stdout]).to.deep.equal([125, '']);
    });
  }

  it('refuses to be called without an image with 1, as Docker does', async () => {
    expect((await refusalOf([])).code).to.equal(1);
  });

  it('refuses -it without a terminal with 1, as Docker does', async () => {
    const { code, stderr } = await refusalOf(['-it', 'i']);
    expect([code, stderr]).to.deep.equal([
      1,
      'hrun: the input device is not a TTY\nhint: leave out -t when stdin is a pipe or a file\n',
    ]);
  });

  it('does not look for a terminal with -d', async () => {
    const request = await requestOf(['-itd', 'i']);
    expect(request).to.include({ detach: true });
  });
});
