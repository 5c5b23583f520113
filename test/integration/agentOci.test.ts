import { readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { refusal, soon } from '../helpers/agentGuest.ts';
import {
  capabilities,
  config,
  execProcess,
  type OciGuest,
  openOciGuest,
  usualMounts,
  usualNamespaces,
} from '../helpers/ociGuest.ts';

describe('the agent as runc in the guest', () => {
  let guest: OciGuest;
  before(async () => {
    guest = await openOciGuest();
  });
  after(() => guest[Symbol.asyncDispose]());

  const output = async (script: string, change: Record<string, unknown> = {}) => {
    const { stdout, stderr, exit } = await guest.run(config(script, change));
    expect([stderr, exit.code], stderr).to.deep.equal(['', 0]);
    return stdout;
  };

  describe('namespaces', () => {
    it('are new ones, and the network is the guest’s', async () => {
      const script = 'for n in pid ipc uts mnt cgroup net user; do readlink /proc/self/ns/$n; done; echo $$';
      const first = (await output(script)).split('\n');
      const second = (await output(script)).split('\n');
      expect(first[7]).to.equal('1');
      const shared = first.filter((name, index) => name === second[index]).map((name) => name.split(':')[0]);
      // numbers of ended namespaces are used again, but these two never end
      expect(shared).to.include.members(['net', 'user']);
    });

    it('of another container are joined, and so are its processes', async () => {
      await using pod = await guest.start(config('touch /dev/shm/x; exec sleep 1000', { hostname: 'pod' }));
      const namespaces = [
        ...['pid', 'ipc', 'uts'].map((type) => ({ type, path: pod.id })),
        { type: 'network' },
        { type: 'mount' },
      ];
      await using member = await guest.start(
        config('echo $$ $(hostname); ps -o args | head -2; cat', { linux: { namespaces } }),
        'b',
      );
      const { stdout } = await member.follow();
      expect(stdout.split('\n')[0]).to.match(/^[2-9]\d* pod$/);
      expect(stdout).to.include('sleep 1000');
      // its own root and mounts all the same
      expect((await pod.exec('cat /proc/self/cgroup')).stdout).to.equal('0::/\n');
      expect(
        (
          await refusal(
            guest.create(
              config('true', {
                linux: {
                  namespaces: usualNamespaces.map(({ type }) => ({
                    type,
                    path: type === 'ipc' ? 'c999' : '',
                  })),
                },
              }),
            ),
          )
        ).reason,
      ).to.equal('NO_SUCH_CONTAINER');
    });

    it('of an ended container are refused', async () => {
      await using ended = await guest.start(config('true'));
      await ended.follow();
      const namespaces = [
        ...usualNamespaces.filter(({ type }) => type !== 'ipc'),
        { type: 'ipc', path: ended.id },
      ];
      const refused = await refusal(guest.create(config('true', { linux: { namespaces } }), 'b'));
      expect(refused).to.include({ reason: 'WRONG_STATE' });
    });

    it('of users map the ids of the share, and still have devices, proc and a terminal', async () => {
      const linux = {
        namespaces: [...usualNamespaces, { type: 'user' }],
        uidMappings: [
          { containerID: 0, hostID: 0, size: 1 },
          { containerID: 1, hostID: 100_000, size: 1000 },
        ],
        gidMappings: [
          { containerID: 0, hostID: 0, size: 1 },
          { containerID: 1, hostID: 100_000, size: 1000 },
        ],
        sysctl: { 'kernel.shmmax': '12345678', 'net.ipv4.ip_forward': '1' },
      };
      const script = [
        'cat /proc/self/uid_map',
        'echo x > /dev/null && head -c 1 /dev/zero | wc -c',
        'touch /dev/shm/mine && stat -c %u /dev/shm/mine',
        'cat /proc/sys/kernel/shmmax /proc/sys/net/ipv4/ip_forward',
        'ls -d /dev/mqueue /sys/fs/cgroup/memory.max; id -u',
      ].join('; ');
      const lines = (
        await output(script, {
          linux,
          process: { user: { uid: 33, gid: 33 }, capabilities: { ...capabilities, ambient: [] } },
        })
      ).split('\n');
      expect(lines.map((line) => line.trim().replaceAll(/\s+/g, ' '))).to.deep.equal([
        '0 0 1',
        '1 100000 1000',
        '1',
        '33',
        '12345678',
        '1',
        '/dev/mqueue',
        '/sys/fs/cgroup/memory.max',
        '33',
        '',
      ]);
      const document = config('sleep 1000', { linux });
      await using container = await guest.start(document);
      const terminal = await container.exec(
        'tty -s; stat -c %u:%g /proc/self/fd/0 >/dev/null; id -u; ls -l /dev/null',
        { terminal: true },
      );
      expect(terminal.stdout).to.match(/^0\r\n.* 1, +3 .*\/dev\/null\r\n$/);
    });

    it('of time have their offsets', async () => {
      const linux = {
        namespaces: [...usualNamespaces, { type: 'time' }],
        timeOffsets: { boottime: { secs: 1_000_000 }, monotonic: { secs: 500 } },
      };
      const uptime = Number((await output('cut -d. -f1 /proc/uptime', { linux })).trim());
      expect(uptime).to.be.greaterThan(999_999);
      await using container = await guest.start(config('sleep 1000', { linux }));
      const inside = Number((await container.exec('cut -d. -f1 /proc/uptime')).stdout.trim());
      expect(inside).to.be.greaterThan(999_999);
    });
  });

  describe('mounts', () => {
    it('have their options, and those below them too', async () => {
      const mounts = [
        ...usualMounts,
        {
          destination: '/tmp/all',
          type: 'bind',
          source: 'roots/b',
          options: ['rbind', 'rro', 'nosuid', 'noexec', 'nodev', 'noatime', 'nosymfollow'],
        },
        {
          destination: '/tmp/small',
          type: 'tmpfs',
          source: 'tmpfs',
          options: ['size=64k', 'mode=1770', 'sync', 'uid=5'],
        },
      ];
      const table = await output(
        'grep /tmp/ /proc/self/mounts; touch /tmp/all/x 2>&1; stat -c "%a %u" /tmp/small; true',
        { mounts },
      );
      expect(table).to.match(/share \/tmp\/all virtiofs ro,nosuid,nodev,noexec,noatime,nosymfollow/);
      expect(table).to.match(/\/tmp\/small tmpfs rw,sync,relatime,size=64k,mode=1770,uid=5/);
      expect(table).to.match(/Read-only file system\n1770 5\n$/);
    });

    it('propagate as asked for', async () => {
      const ofRoot = "grep -E '^([^ ]+ ){4}/ ' /proc/self/mountinfo | cut -d' ' -f7";
      const tag = (
        await output(ofRoot, {
          linux: { rootfsPropagation: 'shared' },
        })
      ).trim();
      expect(tag).to.match(/^shared:\d+$/);
      const mounts = [
        ...usualMounts,
        { destination: '/tmp', type: 'tmpfs', source: 'tmpfs', options: ['rshared'] },
      ];
      expect(await output("grep ' /tmp ' /proc/self/mountinfo | cut -d' ' -f7", { mounts })).to.match(
        /^shared:/,
      );
      const unbindable = await output(ofRoot, {
        linux: { rootfsPropagation: 'unbindable' },
      });
      expect(unbindable.trim()).to.equal('unbindable');
    });

    const inside: readonly (readonly [destination: string, expected: string | RegExp])[] = [
      ['/proc/sys', 'it is inside /proc'],
      ['/proc/self', 'it is inside /proc'],
      ['/proc/1/attr', 'it is inside /proc'],
      ['/to-proc/sys', 'it is inside /proc'],
      ['/proc', 'it is inside /proc'],
    ];
    for (const [destination, expected] of inside) {
      it(`are refused on ${destination}`, async () => {
        await symlink('/proc', join(guest.directory, 'roots/a/to-proc')).catch(() => {});
        for (const type of ['bind', 'tmpfs']) {
          const mounts = [...usualMounts, { destination, type, source: 'roots/b/etc' }];
          const refused = await refusal(guest.create(config('true', { mounts })));
          expect(refused, type).to.deep.equal({
            reason: 'MOUNT_FAILED',
            message: `cannot mount on ${destination}: ${expected}`,
          });
        }
      });
    }

    it('may stand in for the files of proc that show limits', async () => {
      await writeFile(join(guest.directory, 'uptime'), '7.00 7.00\n');
      const mounts = [...usualMounts, { destination: '/proc/uptime', type: 'bind', source: 'uptime' }];
      expect(await output('cat /proc/uptime', { mounts })).to.equal('7.00 7.00\n');
    });

    it('stay beneath the root through links and dots', async () => {
      const root = join(guest.directory, 'roots/a');
      await symlink('../../../../../tmp', join(root, 'up')).catch(() => {});
      const destinations = ['/up/one', '/../../tmp/two', 'tmp/three'];
      const mounts = [
        ...usualMounts,
        ...destinations.map((destination) => ({ destination, type: 'tmpfs', source: 'tmpfs' })),
      ];
      const table = await output("grep ' /tmp/' /proc/mounts | cut -d' ' -f2", { mounts });
      expect(table).to.equal('/tmp/one\n/tmp/two\n/tmp/three\n');
    });

    it('of proc and sysfs are refused on links', async () => {
      await symlink('tmp', join(guest.directory, 'roots/b/proc-link')).catch(() => {});
      const mounts = [...usualMounts, { destination: '/proc-link', type: 'proc', source: 'proc' }];
      const refused = await refusal(guest.create(config('true', { mounts }), 'b'));
      expect(refused.message).to.equal(
        'cannot mount on /proc-link: it must be mounted on an ordinary directory',
      );
    });

    it('that are binds keep the options of their file system', async () => {
      const mounts = [
        ...usualMounts,
        { destination: '/tmp/b', type: 'bind', source: 'roots/b', options: ['size=5', 'ro'] },
      ];
      expect(await output("grep ' /tmp/b ' /proc/mounts", { mounts })).to.equal(
        'share /tmp/b virtiofs ro,relatime 0 0\n',
      );
    });
  });

  describe('what may not be touched', () => {
    it('is read-only or hidden, also where a link leads to it', async () => {
      await symlink('/etc', join(guest.directory, 'roots/a/to-etc')).catch(() => {});
      const linux = {
        maskedPaths: ['/proc/meminfo', '/to-etc/passwd', '/etc/none', '/bin'],
        readonlyPaths: ['/proc/sys', '/tmp'],
      };
      const { stdout, stderr } = await guest.run(
        config(['/proc/self/exe'], {
          process: {
            args: [
              '/busybox',
              'sh',
              '-c',
              '/busybox wc -c /proc/meminfo /etc/passwd; /busybox ls /bin; /busybox touch /tmp/x; echo 1 > /proc/sys/kernel/shmmax; /busybox ls /proc/self/root/bin',
            ],
          },
          linux,
          mounts: [...usualMounts, { destination: '/busybox', type: 'bind', source: 'roots/b/bin/busybox' }],
        }),
      );
      expect(stdout).to.match(/^\s+0 \/proc\/meminfo\n\s+0 \/etc\/passwd\n\s+0 total\n$/);
      expect(stderr.match(/Read-only file system/g)).to.have.length(2);
    });

    it('is not taken from an image that has a link in place of /dev/null', async () => {
      const link = join(guest.directory, 'roots/b/null');
      await symlink('/etc/passwd', link).catch(() => {});
      const mounts = usualMounts.filter(({ destination }) => !destination.startsWith('/dev'));
      const { stdout } = await guest.run(
        config('wc -c < /etc/group', { mounts, linux: { maskedPaths: ['/etc/group'] } }),
        'b',
      );
      expect(stdout.trim()).to.equal('0');
    });

    it('is no descriptor of the agent', async () => {
      expect(await output('ls /proc/self/fd | tr "\\n" " "')).to.equal('0 1 2 3 ');
      await using container = await guest.start(config('sleep 1000'));
      expect((await container.exec('ls /proc/self/fd | tr "\\n" " "')).stdout).to.equal('0 1 2 3 ');
      expect((await container.exec('ls -l /proc/1/fd | wc -l')).stdout.trim()).to.equal('4');
    });
  });

  describe('seccomp', () => {
    const profile = (...syscalls: object[]) => ({
      linux: { seccomp: { defaultAction: 'SCMP_ACT_ALLOW', syscalls } },
    });

    it('refuses calls with the errno that was asked for', async () => {
      const change = profile(
        { names: ['getcwd'], action: 'SCMP_ACT_ERRNO', errnoRet: 5 },
        { names: ['mkdir'], action: 'SCMP_ACT_ERRNO' },
      );
      const { stdout, stderr } = await guest.run(
        config('busybox pwd -P; busybox mkdir /tmp/no; echo on', change),
      );
      expect(stdout).to.equal('on\n');
      expect(stderr)
        .to.match(/I\/O error|Input\/output error/)
        .and.match(/Operation not permitted/);
    });

    it('kills, and looks at arguments', async () => {
      const args = [{ index: 1, value: 0o700, op: 'SCMP_CMP_EQ' }];
      const change = profile({ names: ['chmod'], action: 'SCMP_ACT_KILL_PROCESS', args });
      const { stdout, exit } = await guest.run(config(['chmod', '700', '/tmp'], change));
      expect([stdout, exit.code, exit.signal]).to.deep.equal(['', 159, 31]);
      expect(await output('chmod 755 /tmp && echo fine', change)).to.equal('fine\n');
    });

    it('holds for execs and users without rights, with and without no_new_privs', async () => {
      const change = profile({ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 });
      for (const noNewPrivileges of [false, true]) {
        await using container = await guest.start(
          config('sleep 1000', { ...change, process: { noNewPrivileges } }),
        );
        const { stdout, stderr } = await container.exec(
          'mkdir /tmp/no; grep -E "NoNewPrivs|Seccomp:" /proc/self/status | tr "\\n" " "',
          { user: { uid: 33, gid: 33 }, noNewPrivileges },
        );
        expect(stderr).to.match(/not implemented/);
        expect(stdout).to.equal(`NoNewPrivs:\t${noNewPrivileges ? 1 : 0} Seccomp:\t2 `);
      }
    });

    it('takes a whole list of what is allowed, as managers write it', async () => {
      const text = await readFile(
        join(import.meta.dirname, '../fixtures/oci-configs/podman-plain.json'),
        'utf8',
      );
      const { seccomp } = JSON.parse(text).linux;
      const wide = {
        ...seccomp,
        syscalls: [...seccomp.syscalls, { names: ['arch_prctl'], action: 'SCMP_ACT_ALLOW' }],
      };
      expect(await output('echo fine | cat', { linux: { seccomp: wide } })).to.equal('fine\n');
    });

    it('is refused where it means nothing', async () => {
      const create = (seccomp: object) => refusal(guest.create(config('true', { linux: { seccomp } })));
      expect((await create({ defaultAction: 'SCMP_ACT_PERMIT' })).message).to.match(
        /SCMP_ACT_PERMIT is not a valid action/,
      );
      expect((await create({ defaultAction: 'SCMP_ACT_NOTIFY' })).reason).to.equal('UNSUPPORTED');
    });
  });

  describe('a process', () => {
    it('has the limits, priorities, CPUs and personality asked for', async () => {
      const process = {
        rlimits: [
          { type: 'RLIMIT_NOFILE', soft: 100, hard: 2_000_000 },
          { type: 'RLIMIT_CORE', soft: 0, hard: 0 },
        ],
        oomScoreAdj: -500,
        ioPriority: { class: 'IOPRIO_CLASS_IDLE', priority: 0 },
        scheduler: { policy: 'SCHED_BATCH', nice: 5 },
        user: { uid: 0, gid: 0, umask: 0o77, additionalGids: [7, 8] },
      };
      const script =
        'ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; ionice; cut -d" " -f41 /proc/self/stat; uname -m; umask; id -G; cut -d" " -f19 /proc/self/stat';
      const lines = (await output(script, { process, linux: { personality: { domain: 'LINUX32' } } })).split(
        '\n',
      );
      expect(lines[0]).to.equal('100');
      expect(lines[1]).to.equal('2000000');
      expect(lines[2]).to.equal('-500');
      expect(lines[3]).to.match(/^idle/);
      expect(lines[4]).to.equal('3');
      expect(lines.slice(5)).to.deep.equal(['i686', '0077', '0 7 8', '5', '']);
    });

    it('runs on the CPUs that an exec asks for', async () => {
      await using container = await guest.start(config('sleep 1000'));
      const affinity = await container.exec('taskset -p $$', {
        execCPUAffinity: { initial: '0', final: '0' },
      });
      expect(affinity.stdout).to.match(/affinity mask: 1\n/);
      const process = execProcess('true', { execCPUAffinity: { initial: '7-9' } });
      const refused = await refusal(
        guest.client.exec({ containerId: container.id, processId: 'x', process }, soon()),
      );
      expect(refused.message).to.match(/setting the CPU affinity/);
    });

    it('has a session keyring of its container', async () => {
      const keys = async () => (await output('cat /proc/keys | grep -c _ses.c')).trim();
      expect(await keys()).to.equal('1');
    });

    it('has its sysctls', async () => {
      const sysctl = { 'kernel.msgmax': '9000', 'net.ipv4.ping_group_range': '0 5', 'vm.swappiness': '7' };
      const text = await output(
        'cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ping_group_range /proc/sys/vm/swappiness',
        { linux: { sysctl } },
      );
      expect(text).to.equal('9000\n0\t5\n7\n');
      const refused = await refusal(
        guest.create(config('true', { linux: { sysctl: { 'kernel.nothing': '1' } } })),
      );
      expect(refused.message).to.match(/setting the sysctl \/proc\/sys\/kernel\/nothing/);
    });

    it('keeps the capabilities asked for, also ambient ones of another user', async () => {
      const process = {
        user: { uid: 33, gid: 33 },
        capabilities: {
          bounding: ['CAP_KILL', 'CAP_CHOWN'],
          permitted: ['CAP_KILL'],
          inheritable: ['CAP_KILL'],
          effective: ['CAP_KILL'],
          ambient: ['CAP_KILL', 'CAP_UNHEARD_OF'],
        },
      };
      expect(await output('grep Cap /proc/self/status | cut -f2', { process })).to.equal(
        ['20', '20', '20', '21', '20'].map((mask) => `${mask.padStart(16, '0')}\n`).join(''),
      );
    });
  });

  describe('users of an exec', () => {
    const corpus: readonly (readonly [user: string, expected: string])[] = [
      ['web', 'uid=33(web) gid=33(web)'],
      ['33:0', 'uid=33(web) gid=0(root)'],
      [':web', 'uid=0(root) gid=33(web)'],
      ['4711', 'uid=4711 gid=0(root)'],
      ['nobody', 'unable to find user nobody'],
      ['-1', 'unable to find user -1'],
      ['4294967295', 'must be in range'],
      ['99999999999999999999', 'unable to find user'],
      ['root\nweb', 'unable to find user'],
      ['../root', 'unable to find user'],
      ['root:root:root', 'unable to find group'],
      ['0x0', 'unable to find user'],
    ];
    for (const [user, expected] of corpus) {
      it(`${JSON.stringify(user)}: ${expected}`, async () => {
        await using container = await guest.start(config('sleep 1000'));
        const process = { ...execProcess(['id']), user };
        const done = guest.client.exec({ containerId: container.id, processId: 'u', process }, soon());
        if (!expected.startsWith('uid')) {
          expect((await refusal(done)).message).to.include(expected);
          return;
        }
        await done;
        expect((await container.follow('u')).stdout).to.include(expected);
      });
    }
  });

  it('refuses in create what cannot run, in the words of runc, and leaves nothing', async () => {
    const message = async (args: readonly string[], process: object = {}) =>
      (await refusal(guest.create(config(args, { process: process as Record<string, unknown> })))).message;
    expect(await message(['/nope'])).to.equal('exec: "/nope": stat /nope: no such file or directory');
    expect(await message(['nope'])).to.equal('exec: "nope": executable file not found in $PATH');
    expect(await message(['/etc/passwd'])).to.equal('exec: "/etc/passwd": permission denied');
    expect(await message(['true'], { cwd: '/etc/passwd' })).to.match(
      /chdir to cwd \("\/etc\/passwd"\) set in config\.json failed: not a directory/,
    );
    expect(await guest.client.listContainers(soon())).to.deep.equal([]);
  });

  describe('limits', () => {
    it('of the first hour and later ones are those of the cgroup', async () => {
      const resources = {
        memory: { limit: 32 << 20, reservation: 8 << 20, swap: 64 << 20 },
        cpu: { shares: 1024, quota: 50_000, period: 100_000, burst: 10_000 },
        pids: { limit: 50 },
        blockIO: { weight: 500 },
        hugepageLimits: [
          { pageSize: '2MB', limit: 4 << 20 },
          { pageSize: '64KB', limit: 0 },
        ],
        unified: { 'memory.high': '30000000', 'cpuset.cpus': '0' },
      };
      const files = [
        'memory.max',
        'memory.low',
        'memory.high',
        'cpu.weight',
        'cpu.max',
        'cpu.max.burst',
        'pids.max',
        'io.weight',
        'hugetlb.2MB.max',
        'cpuset.cpus',
      ];
      const read = `cd /sys/fs/cgroup; for f in ${files.join(' ')}; do echo $f $(cat $f); done`;
      await using container = await guest.start(config('sleep 1000', { linux: { resources } }));
      expect((await container.exec(read)).stdout.trim().split('\n')).to.deep.equal([
        'memory.max 33554432',
        'memory.low 8388608',
        'memory.high 29999104',
        'cpu.weight 39',
        'cpu.max 50000 100000',
        'cpu.max.burst 10000',
        'pids.max 50',
        'io.weight default 4950',
        'hugetlb.2MB.max 4194304',
        'cpuset.cpus 0',
      ]);
      const max = 0xffff_ffff_ffff_ffffn;
      await guest.client.updateContainer(
        {
          containerId: container.id,
          resources: { memoryMaxBytes: max, cpuQuotaUs: 20_000n, cpuBurstUs: 0n, pidsMax: 9n },
        },
        soon(),
      );
      const changed = (await container.exec(read)).stdout;
      expect(changed)
        .to.include('memory.max max\n')
        .and.include('cpu.max 20000 100000\n')
        .and.include('pids.max 9\n')
        .and.include('cpu.weight 39\n');
      const stats = await guest.client.containerStats(container.id, soon());
      expect(stats['pids.max']).to.equal('9\n');
      expect(stats['cpu.stat']).to.match(/^usage_usec \d+$/m);
      expect(Number(stats['memory.current'])).to.be.greaterThan(0);
    });

    it('of memory are checked before an update, if asked to', async () => {
      await using container = await guest.start(config('sleep 1000'));
      const refused = await refusal(
        guest.client.updateContainer(
          { containerId: container.id, resources: { memoryMaxBytes: 4096n, memoryCheckBeforeUpdate: true } },
          soon(),
        ),
      );
      expect(refused).to.include({ reason: 'WRONG_STATE' });
      expect(refused.message).to.match(/^rejecting memory limit 4096 < usage \d+$/);
    });

    it('of memory kill, and the kills are counted', async () => {
      const linux = { resources: { memory: { limit: 16 << 20 } } };
      const { exit } = await guest.run(config('tail /dev/zero; tail /dev/zero; exit 3', { linux }));
      expect(exit).to.include({ code: 3, oomKilled: true, oomKills: 2n });
      expect((await guest.run(config('exit 3', { linux }))).exit).to.include({
        code: 3,
        oomKilled: false,
        oomKills: 0n,
      });
    });

    it('of devices are those of the rules, and an update changes them', async () => {
      const devices = [{ path: '/dev/fuse', type: 'c', major: 10, minor: 229 }];
      const deny = { allow: false, access: 'rwm' };
      const allow = { allow: true, type: 'c', major: 10, minor: 229, access: 'rw' };
      const open = '(: < /dev/fuse) 2>&1 | grep -c permitted';
      const { stdout } = await guest.run(
        config(open, { linux: { devices, resources: { devices: [deny] } } }),
      );
      expect(stdout).to.equal('1\n');
      await using container = await guest.start(
        config('sleep 1000', { linux: { devices, resources: { devices: [deny, allow] } } }),
      );
      expect((await container.exec(open)).stdout).to.equal('0\n');
      await guest.client.updateContainer(
        {
          containerId: container.id,
          resources: { deviceRules: { rules: [{ allow: false, type: 'a', access: 'rwm' }] } },
        },
        soon(),
      );
      expect((await container.exec(open)).stdout).to.equal('1\n');
    });
  });

  it('freezes all processes, lets none in meanwhile, and goes on where it stopped', async () => {
    await using container = await guest.start(config('while :; do echo x >> /tmp/frozen; done'));
    const grown = join(guest.directory, 'roots/a/tmp/frozen');
    await container.exec('until test -s /tmp/frozen; do :; done');
    await guest.client.pauseContainer(container.id, soon());
    const before = (await readFile(grown)).length;
    expect((await guest.client.listContainers(soon()))[0]).to.include({ status: 'running', paused: true });
    const process = execProcess('true');
    const refused = await refusal(
      guest.client.exec({ containerId: container.id, processId: 'x', process }, soon()),
    );
    expect(refused.message).to.equal('cannot exec in a paused container (use --ignore-paused to override)');
    expect((await readFile(grown)).length).to.equal(before);
    const waiting = guest.client.exec(
      { containerId: container.id, processId: 'y', process, ignorePaused: true },
      soon(),
    );
    await guest.client.resumeContainer(container.id, soon());
    await waiting;
    expect((await container.follow('y')).exit.code).to.equal(0);
    expect((await refusal(guest.client.resumeContainer(container.id, soon()))).message).to.equal(
      'container not paused',
    );
    await guest.client.pauseContainer(container.id, soon());
    await guest.client.signal({ containerId: container.id, processId: 'init', signal: 9 }, soon());
    expect((await container.follow()).exit.code).to.equal(137);
  });

  describe('startContainer hooks', () => {
    const hooks = (...startContainer: object[]) => ({ hooks: { startContainer } });
    const script = (text: string, rest: object = {}) => ({
      path: '/bin/sh',
      args: ['sh', '-c', text],
      ...rest,
    });

    it('run right before the process, with the state on stdin', async () => {
      const change = hooks(
        script('cat > /tmp/state; echo $A > /tmp/env', { env: ['PATH=/bin', 'A=b'] }),
        // one that reads nothing and says much
        script('seq 1 100000'),
      );
      await using container = await guest.create(
        config('cat /tmp/state /tmp/env', { ...change, annotations: { k: 'v' } }),
      );
      expect(
        (
          await refusal(
            guest.client.statPath(
              { containerId: container.id, path: '/tmp/state', followLink: false },
              soon(),
            ),
          )
        ).reason,
      ).to.equal('NO_SUCH_PATH');
      await guest.client.startContainer(container.id, soon());
      const { stdout } = await container.follow();
      const [state, env] = stdout.split('}b');
      expect(env).to.equal('\n');
      expect(JSON.parse(`${state}}`)).to.deep.equal({
        ociVersion: '1.2.0',
        id: container.id,
        status: 'created',
        pid: 1,
        bundle: '/bundle',
        annotations: { k: 'v' },
      });
    });

    it('that fail or take too long fail the start', async () => {
      for (const [hook, why] of [
        [script('echo oh no; exit 4'), /error running startContainer hook #0: exit status 4, output: oh no$/],
        [script('sleep 1000', { timeout: 1 }), /hook #0: timeout$/],
        [{ path: '/nope' }, /hook #0: exit status 127, output: \/nope: no such file or directory$/],
      ] as const) {
        await using container = await guest.create(config('true', hooks(hook)));
        const refused = await refusal(guest.client.startContainer(container.id, soon()));
        expect(refused.reason).to.equal('HOOK_FAILED');
        expect(refused.message).to.match(why);
        expect((await container.follow()).exit.code).to.equal(126);
      }
    });
  });
});
