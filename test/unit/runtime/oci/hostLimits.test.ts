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
});
