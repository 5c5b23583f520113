import { expect } from 'chai';
import { newContainerId } from '../../../src/base/ids.ts';
import { noNetwork } from '../../../src/network/containerNetwork.ts';
import { mergeContainerConfig } from '../../../src/runtime/containerConfig.ts';
import type { CreateRequest } from '../../../src/runtime/runRequest.ts';
import type { ImageConfigView } from '../../../src/runtime/views.ts';

const id = newContainerId();
const host = {
  memoryBytes: 512 * 1024 * 1024,
  cpus: 1,
  storageBytes: 1e9,
  stopTimeoutS: 10,
  kernelPath: '/k',
  initramfsPath: '/i',
  defaultNetwork: 'bridge',
  accelerator: 'auto' as const,
  templateScope: { kind: 'host' as const },
};
const plainImage: ImageConfigView = {
  user: '',
  env: [],
  entrypoint: [],
  cmd: ['sh'],
  workingDir: '',
  exposedPorts: [],
  volumes: [],
  labels: {},
};

function request(change: Partial<CreateRequest> = {}): CreateRequest {
  return {
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
    network: { ...noNetwork, none: true, publishAll: false, expose: [] },
    pull: 'missing',
    insecure: false,
    ...change,
  };
}

function merge(change: Partial<CreateRequest> = {}, image: Partial<ImageConfigView> = {}) {
  return mergeContainerConfig(
    id,
    request(change),
    { id: 'sha256:x', config: { ...plainImage, ...image } },
    host,
  );
}

describe('the configuration of a container', () => {
  it("takes the image's entrypoint and command", () => {
    const config = merge({}, { entrypoint: ['/entry'], cmd: ['a', 'b'] });
    expect([config.entrypoint, config.cmd]).to.deep.equal([['/entry'], ['a', 'b']]);
  });

  it("replaces only the command by the user's", () => {
    const config = merge({ command: ['c'] }, { entrypoint: ['/entry'], cmd: ['a'] });
    expect([config.entrypoint, config.cmd]).to.deep.equal([['/entry'], ['c']]);
  });

  it("drops the image's command with its entrypoint", () => {
    const config = merge({ entrypoint: ['/mine'] }, { entrypoint: ['/entry'], cmd: ['a'] });
    expect([config.entrypoint, config.cmd]).to.deep.equal([['/mine'], []]);
  });

  it('refuses a container without any command', () => {
    expect(() => merge({}, { cmd: [] })).to.throw('names no command');
    expect(() => merge({ entrypoint: [] }, { entrypoint: ['/entry'] })).to.throw('names no command');
  });

  it('lets the user set, replace and remove variables', () => {
    const config = merge(
      {
        environment: [
          { name: 'A', value: 'mine' },
          { name: 'B', value: undefined },
          { name: 'C', value: '' },
        ],
      },
      { env: ['A=image', 'B=image', 'D=x=y', 'PATH=/image'] },
    );
    expect(config.env).to.deep.equal(['PATH=/image', `HOSTNAME=${id.slice(0, 12)}`, 'A=mine', 'D=x=y', 'C=']);
  });

  it('sets TERM with a terminal only', () => {
    expect(merge({ terminal: true }).env).to.include('TERM=xterm');
    expect(merge().env).not.to.include('TERM=xterm');
  });

  it('makes anonymous volumes but where the user mounts something', () => {
    const config = merge(
      {
        binds: [{ source: '/s', destination: '/data', readonly: false, create: true, options: [] }],
        tmpfs: [{ destination: '/t', options: [] }],
        anonymousVolumes: ['/own'],
        autoRemove: true,
      },
      { volumes: ['/data', '/t', '/cache', '/own/'] },
    );
    expect(config.volumes).to.have.members(['/cache', '/own']);
    expect(config.namedVolumes).to.deep.equal([]);
  });

  it('gives anonymous volumes names of their own where they outlive the container', () => {
    const { volumes, namedVolumes } = merge({ anonymousVolumes: ['/a', '/b'] });
    expect(volumes).to.deep.equal([]);
    expect(namedVolumes.map(({ destination }) => destination)).to.deep.equal(['/a', '/b']);
    expect(namedVolumes.every(({ name, anonymous }) => anonymous && /^[0-9a-f]{64}$/.test(name))).to.equal(
      true,
    );
    expect(new Set(namedVolumes.map(({ name }) => name)).size).to.equal(2);
  });

  it('gives the guest more memory than the workload, and limits the workload only when asked', () => {
    const limited = merge({ memoryBytes: 100 * 1024 * 1024 });
    expect(limited.memoryLimitBytes).to.equal(100 * 1024 * 1024);
    expect(limited.vmMemoryMiB).to.equal(164);
    expect(merge()).to.not.have.property('memoryLimitBytes');
  });

  it('refuses less memory than Docker does', () => {
    expect(() => merge({ memoryBytes: 4 * 1024 * 1024 })).to.throw('too little');
  });

  it('rounds CPUs up and limits the bandwidth to the fraction', () => {
    expect(merge({ cpus: 1.5 })).to.include({ vcpus: 2, cpuLimit: 1.5 });
    expect(merge({ cpus: 2 }))
      .to.include({ vcpus: 2 })
      .and.not.have.property('cpuLimit');
    expect(merge({ cpus: 0.1 }).vcpus).to.equal(1);
  });

  it("understands the image's stop signal by name or number", () => {
    expect(merge({}, { stopSignal: 'SIGQUIT' }).stopSignal).to.equal(3);
    expect(merge({}, { stopSignal: 'INT' }).stopSignal).to.equal(2);
    expect(merge({}, { stopSignal: '12' }).stopSignal).to.equal(12);
    expect(merge().stopSignal).to.equal(15);
    expect(() => merge({}, { stopSignal: 'SIGNONSENSE' })).to.throw('unknown');
  });
});
