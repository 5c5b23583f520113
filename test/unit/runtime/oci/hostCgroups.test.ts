import { expect } from 'chai';
import { cgroupPath } from '../../../../src/runtime/oci/hostCgroups.ts';
import { cgroupMounts } from '../../../../src/sys/cgroups.ts';

const v1 = [
  '30 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755',
  '31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
  '32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd',
  '33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct',
  '34 30 0:30 / /sys/fs/cgroup/mem\\040ory rw - cgroup cgroup rw,memory',
  '35 30 0:30 / /elsewhere rw - cgroup cgroup rw,memory',
].join('\n');

describe("the host's cgroups", () => {
  it('finds the hierarchies of v1, each once, and leaves the unified one of the hybrid layout', () => {
    expect(cgroupMounts(v1)).to.deep.equal([
      { directory: '/sys/fs/cgroup/systemd', controllers: ['name=systemd'] },
      { directory: '/sys/fs/cgroup/cpu,cpuacct', controllers: ['cpu', 'cpuacct'] },
      { directory: '/sys/fs/cgroup/mem ory', controllers: ['memory'] },
    ]);
  });

  it('finds the one of v2', () => {
    const table = '30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n';
    expect(cgroupMounts(table)).to.deep.equal([{ directory: '/sys/fs/cgroup', controllers: [] }]);
  });

  it('takes the path of either driver, and never leaves the hierarchy', () => {
    expect(cgroupPath('', 'id')).to.equal('/id');
    expect(cgroupPath('/docker/id', 'id')).to.equal('/docker/id');
    expect(cgroupPath('relative/x', 'id')).to.equal('/relative/x');
    expect(cgroupPath('/../../x', 'id')).to.equal('/x');
    expect(cgroupPath('user-1000.slice:docker:abc', 'id')).to.equal(
      '/user.slice/user-1000.slice/docker-abc.scope',
    );
    expect(cgroupPath(':cri:abc', 'id')).to.equal('/system.slice/cri-abc.scope');
    expect(cgroupPath('machine.slice::libpod.slice', 'id')).to.equal('/machine.slice/libpod.slice');
  });
});
