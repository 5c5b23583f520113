import { expect } from 'chai';
import { parseRuntimeSpec } from '../../../../src/oci/runtimeSpec.ts';
import { planShares } from '../../../../src/runtime/oci/bundlePlan.ts';

describe('the shares of a bundle', () => {
  it('gives the root and each bind a name, and shows binds in the root where the guest mounts nothing above', () => {
    const spec = parseRuntimeSpec(
      Buffer.from(
        JSON.stringify({
          ociVersion: '1.0.2',
          root: { path: 'rootfs', readonly: true },
          mounts: [
            { destination: '/proc', type: 'proc', source: 'proc' },
            { destination: '/dev', type: 'tmpfs', source: 'tmpfs' },
            { destination: '/dev/shm', type: 'bind', source: '/run/shm', options: ['bind'] },
            { destination: '/etc/hosts', type: 'bind', source: 'hosts', options: ['rbind', 'ro'] },
          ],
        }),
      ),
    );
    const plan = planShares(spec, '/b/rootfs', '/b', 'x-');
    expect(plan.root).to.equal('x-root');
    expect(plan.shares).to.deep.equal([
      { name: 'x-root', path: '/b/rootfs', readonly: true, create: false, recursive: true },
      { name: 'x-2', path: '/run/shm', readonly: false, create: false, recursive: false },
      { name: 'x-3', path: '/b/hosts', readonly: true, create: false, recursive: true, at: '/etc/hosts' },
    ]);
    expect(plan.mountPoints).to.deep.equal([
      { path: '/proc', directory: true },
      { path: '/dev', directory: true },
      { path: '/etc/hosts', share: 'x-3' },
    ]);
    expect([...plan.sources]).to.deep.equal([
      [2, 'x-2'],
      [3, 'x-3'],
    ]);
  });

  it('maps owners as a mount says, or as the user namespace of the container does', () => {
    const ranges = (hostID: number) => [{ containerID: 0, hostID, size: 10 }];
    const bind = { destination: '/a', type: 'bind', source: '/a' };
    const spec = parseRuntimeSpec(
      Buffer.from(
        JSON.stringify({
          ociVersion: '1.2.0',
          root: { path: 'rootfs' },
          mounts: [
            { ...bind, options: ['bind', 'idmap'] },
            { ...bind, options: ['bind', 'ridmap'], uidMappings: ranges(7), gidMappings: ranges(8) },
            { ...bind, options: ['bind'], uidMappings: ranges(7), gidMappings: ranges(8) },
            { ...bind, options: ['bind'] },
          ],
          linux: { uidMappings: ranges(100), gidMappings: ranges(200) },
        }),
      ),
    );
    const maps = planShares(spec, '/b/rootfs', '/b', '').shares.map(({ idMap }) => idMap);
    expect(maps).to.deep.equal([
      undefined,
      { uids: [[0, 100, 10]], gids: [[0, 200, 10]], recursive: false },
      { uids: [[0, 7, 10]], gids: [[0, 8, 10]], recursive: true },
      { uids: [[0, 7, 10]], gids: [[0, 8, 10]], recursive: false },
      undefined,
    ]);
  });
});
