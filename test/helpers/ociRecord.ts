import { newContainerId } from '../../src/base/ids.ts';
import type { OciRecord } from '../../src/runtime/oci/ociRecord.ts';

/** A container of a manager that was just created. */
export function ociRecord(name: string): OciRecord {
  const id = newContainerId();
  return {
    version: 1,
    id,
    name,
    scope: 'default',
    bundle: '/b',
    rootfs: '/b/rootfs',
    ociVersion: '1.0.2',
    annotations: { role: 'test' },
    createdAt: '2026-01-01T00:00:00.000Z',
    ownerUid: 0,
    status: 'created',
    paused: false,
    exitCode: 0,
    oomKilled: false,
    error: '',
    sandbox: id,
    vmRunDir: '/run/vm',
    runDir: '/run/vm',
    vmMemoryMiB: 576,
    vcpus: 1,
    cgroups: [],
    execs: [],
    relaysNames: false,
    interfaces: [],
  };
}
