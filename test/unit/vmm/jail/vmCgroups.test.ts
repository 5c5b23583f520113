import { expect } from 'chai';
import { limitsOf, vmParents } from '../../../../src/vmm/jail/vmCgroups.ts';

const hybrid = [
  '31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
  '32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd',
  '33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct',
  '34 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory',
].join('\n');
const unified = '31 30 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw';

describe('the cgroups of microVMs', () => {
  it('lie beside the daemon’s own, in the hierarchies that limit something', () => {
    const own = '4:cpu,cpuacct:/hrun\n3:memory:/a/b\n1:name=systemd:/hrun\n0::/hrun\n';
    expect(vmParents(hybrid, own)).to.deep.equal([
      { controllers: ['cpu', 'cpuacct'], directory: '/sys/fs/cgroup/cpu,cpuacct/hrun.vms' },
      { controllers: ['memory'], directory: '/sys/fs/cgroup/memory/a/b.vms' },
    ]);
    expect(vmParents(unified, '0::/hrun\n')).to.deep.equal([
      { controllers: [], directory: '/sys/fs/cgroup/hrun.vms' },
    ]);
    expect(vmParents(unified, '0::/\n')[0]?.directory).to.equal('/sys/fs/cgroup/hrun.vms');
    expect(vmParents('', '')).to.deep.equal([]);
  });

  it('limit memory to the guest’s and what QEMU needs, CPU time and threads', () => {
    const limits = { memoryMiB: 512, vcpus: 2, accelerator: 'kvm' as const };
    const bytes = String(640 * 1024 * 1024);
    expect(limitsOf({ controllers: [], directory: '/c' }, limits)).to.deep.equal([
      ['memory.max', bytes],
      ['memory.oom.group', '1'],
      ['cpu.max', '300000 100000'],
      ['pids.max', '520'],
    ]);
    const v1 = ['cpu', 'cpuacct', 'memory', 'pids'].flatMap((controller) =>
      limitsOf({ controllers: [controller], directory: '/c' }, limits),
    );
    expect(v1).to.deep.equal([
      ['cpu.cfs_period_us', '100000'],
      ['cpu.cfs_quota_us', '300000'],
      ['memory.limit_in_bytes', bytes],
      ['pids.max', '520'],
    ]);
  });
});
