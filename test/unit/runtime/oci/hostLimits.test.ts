import { expect } from 'chai';
import { parseResourcesSpec } from '../../../../src/oci/resourcesSpec.ts';
import { hostLimits, vmSizeFor } from '../../../../src/runtime/oci/hostLimits.ts';

const resources = (document: object) => parseResourcesSpec(Buffer.from(JSON.stringify(document)));
const defaults = { memoryBytes: 512 * 1024 * 1024, cpus: 1 };

describe('limits of a microVM on the host', () => {
  it('sizes it by the limits of the container and what a guest needs beside', () => {
    expect(vmSizeFor(undefined, defaults, 8)).to.deep.equal({ memoryMiB: 512, vcpus: 1 });
    const limited = resources({
      memory: { limit: 64 * 1024 * 1024 },
      cpu: { quota: 150_000, period: 100_000 },
    });
    expect(vmSizeFor(limited, defaults, 8)).to.deep.equal({ memoryMiB: 160, vcpus: 2 });
    expect(vmSizeFor(resources({ cpu: { quota: 1_600_000 } }), defaults, 4).vcpus).to.equal(4);
    expect(vmSizeFor(resources({ memory: { limit: -1 } }), defaults, 4).memoryMiB).to.equal(512);
  });

  it('writes the files of v1 and v2 with the overhead of the microVM', () => {
    const limited = resources({
      memory: { limit: 67_108_864 },
      cpu: { shares: 1024, quota: 50_000, cpus: '0-1' },
    });
    const mebibyte = 1024 * 1024;
    expect(hostLimits(limited, 160, 'kvm', false).map(({ file, value }) => [file, value])).to.deep.equal([
      ['memory.limit_in_bytes', String((160 + 128) * mebibyte)],
      ['cpu.shares', '1024'],
      ['cpu.cfs_quota_us', '50000'],
      ['cpuset.cpus', '0-1'],
    ]);
    expect(hostLimits(limited, 160, 'tcg', true).map(({ file, value }) => [file, value])).to.deep.equal([
      ['memory.max', String((160 + 320) * mebibyte)],
      ['cpu.weight', '39'],
      ['cpu.max', '50000 100000'],
      ['cpuset.cpus', '0-1'],
    ]);
    expect(hostLimits(resources({ cpu: { shares: 0 }, memory: {} }), 160, 'kvm', false)).to.deep.equal([]);
  });

  it('writes weights and rates of devices, and, with v1, classes of traffic', () => {
    const limited = resources({
      blockIO: {
        weight: 300,
        weightDevice: [{ major: 8, minor: 0, weight: 500 }],
        throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 1000 }],
        throttleWriteIOPSDevice: [{ major: 8, minor: 16, rate: 20 }],
      },
      network: { classID: 1048577, priorities: [{ name: 'eth0', priority: 5 }] },
    });
    expect(hostLimits(limited, 160, 'kvm', false).map(({ file, value }) => [file, value])).to.deep.equal([
      ['blkio.bfq.weight', '300'],
      ['blkio.bfq.weight_device', '8:0 500'],
      ['blkio.throttle.read_bps_device', '8:0 1000'],
      ['blkio.throttle.write_iops_device', '8:16 20'],
      ['net_cls.classid', '1048577'],
      ['net_prio.ifpriomap', 'eth0 5'],
    ]);
    expect(hostLimits(limited, 160, 'kvm', true).map(({ file, value }) => [file, value])).to.deep.equal([
      ['io.bfq.weight', '300'],
      ['io.bfq.weight', '8:0 500'],
      ['io.max', '8:0 rbps=1000'],
      ['io.max', '8:16 wiops=20'],
    ]);
  });
});
