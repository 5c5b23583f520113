import { newContainerId } from '../../src/base/ids.ts';
import { noNetwork } from '../../src/network/containerNetwork.ts';
import { type ContainerRecord, initialState } from '../../src/runtime/containerRecord.ts';

/** A container that was just created from busybox. */
export function containerRecord(name: string): ContainerRecord {
  return {
    version: 1,
    id: newContainerId(),
    name,
    createdAt: '2026-01-01T00:00:00.000Z',
    config: {
      image: 'busybox',
      imageId: 'sha256:x',
      entrypoint: [],
      cmd: ['true'],
      env: [],
      workingDir: '/',
      user: '',
      hostname: 'h',
      domainname: '',
      labels: {},
      openStdin: false,
      terminal: false,
      autoRemove: false,
      init: false,
      network: noNetwork,
      stopSignal: 15,
      stopTimeoutS: 10,
      readonlyRootfs: false,
      capAdd: [],
      capDrop: [],
      tmpfs: [],
      binds: [],
      volumes: [],
      namedVolumes: [],
      disks: [],
      imageMounts: [],
      ulimits: [],
      sysctls: {},
      vmMemoryMiB: 576,
      vcpus: 1,
      storageBytes: 1e9,
      kernelPath: '/k',
      initramfsPath: '/i',
      accelerator: 'auto',
      cold: false,
      templateScope: { kind: 'host' },
    },
    state: initialState,
  };
}
