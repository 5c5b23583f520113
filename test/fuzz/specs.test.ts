import { readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { parseConfig } from '../../src/base/config.ts';
import { parseFrontFrame } from '../../src/daemon/wire.ts';
import { findCniConfig } from '../../src/network/cni/cniConfig.ts';
import { type GuestContext, guestContainerOf, hostPlanOf } from '../../src/oci/containerPlan.ts';
import { parseRuntimeSpec } from '../../src/oci/runtimeSpec.ts';
import { parseStandInFrame } from '../../src/runtime/wire/standInFrames.ts';
import { frontFrame, helloFrame } from '../helpers/frontDoor.ts';
import { fuzz, unlessRefused, unlessRejected } from '../helpers/fuzz.ts';
import { temporaryDirectory } from '../helpers/tempDir.ts';

const fixtures = join(import.meta.dirname, '../fixtures/oci-configs');
const context: GuestContext = {
  containerId: 'c1',
  name: 'box',
  bundle: '/bundle',
  root: { tag: 'tree', path: 'root' },
  bindSource: ({ index }) => ({ tag: 'tree', path: `bind${index}` }),
  joinedContainer: (path) => `of-${path.split('/')[2]}`,
  stdinOpen: false,
};

describe('fuzzing what says how something is to run', () => {
  fuzz({
    name: 'runtimeSpec',
    seeds: readdirSync(fixtures).map((file) => readFileSync(join(fixtures, file))),
    check(bytes) {
      unlessRefused(['SPEC_INVALID', 'SPEC_UNSUPPORTED'], () => {
        const spec = parseRuntimeSpec(bytes);
        hostPlanOf(spec);
        const guest = guestContainerOf(spec, context);
        expect(guest.mounts).to.have.length(spec.mounts.length);
        for (const { destination } of guest.mounts) expect(destination).to.match(/^\//).and.not.contain('\0');
      });
    },
  });

  fuzz({
    name: 'config',
    seeds: [
      Buffer.from(
        JSON.stringify({
          memory: '1g',
          cpus: 2,
          kernel: '/k',
          network: 'none',
          templateScope: 'tenant:a',
          poolReady: 1,
          allowWeakerJail: ['uid'],
          cniPath: ['/opt'],
          logMaxSize: '10m',
        }),
      ),
    ],
    check(bytes) {
      const config = unlessRefused(['INVALID_CONFIG'], () => parseConfig(bytes.toString('utf8'), '/c.json'));
      if (config === undefined) return;
      for (const value of Object.values(config)) {
        if (typeof value === 'number') expect(Number.isFinite(value) && value >= 0).to.equal(true);
      }
    },
  });

  fuzz({
    name: 'cniConfig',
    seeds: [
      Buffer.from(
        JSON.stringify({
          cniVersion: '1.0.0',
          name: 'mine',
          plugins: [{ type: 'bridge', bridge: 'b', ipam: { type: 'host-local', subnet: '10.0.0.0/8' } }],
        }),
      ),
    ],
    async check(bytes) {
      await using directory = await temporaryDirectory();
      await writeFile(join(directory.path, '1.conflist'), bytes);
      const config = await unlessRejected(['INVALID_CONFIG', 'NOT_FOUND'], () =>
        findCniConfig(directory.path, 'mine'),
      );
      // a type is the name of a program: no path
      for (const { type } of config?.plugins ?? []) expect(type).not.to.match(/^\.|\/|\0/);
    },
  });

  const frames = [
    helloFrame({ argv: ['run', 'busybox'], environment: ['A=b'] }),
    frontFrame(0x09, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0x7b, 0x7d])),
  ];
  fuzz({
    name: 'wire',
    // the length, which the splitter takes off, and then the type
    seeds: frames.map((frame) => frame.subarray(4)),
    check(bytes) {
      const [type = 0] = bytes;
      const body = bytes.subarray(1);
      unlessRefused(['WIRE_PROTOCOL', 'INVALID_ARGUMENT'], () => parseFrontFrame(type, body));
      unlessRefused(['WIRE_PROTOCOL'], () => parseStandInFrame(type, body));
    },
  });
});
