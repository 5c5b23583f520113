/**
 * The rooms and their arrows (docs/architecture.md, "Rooms"): a room may import only from the rooms listed for it.
 * When a room must change, change the picture and this table in the same commit.
 */
const mayImport = {
  daemon: ['cli', 'runtime', 'pool', 'vmm', 'agent', 'image', 'network', 'sys', 'oci', 'base'],
  cli: ['runtime', 'pool', 'vmm', 'agent', 'image', 'network', 'sys', 'oci', 'base'],
  runtime: ['pool', 'vmm', 'agent', 'image', 'network', 'sys', 'oci', 'base'],
  pool: ['vmm', 'agent', 'sys', 'oci', 'base'],
  vmm: ['sys', 'oci', 'base'],
  agent: ['sys', 'oci', 'base'],
  image: ['sys', 'oci', 'base'],
  network: ['sys', 'oci', 'base'],
  sys: ['base'],
  oci: ['base'],
  base: [],
};

const roomRules = Object.entries(mayImport).map(([room, allowed]) => ({
  name: `room-${room}`,
  comment: `${room}/ may import only ${allowed.join(', ') || 'itself'}`,
  severity: 'error',
  from: { path: `^src/${room}/` },
  to: { path: '^src/', pathNot: `^src/(${[room, ...allowed].join('|')})/` },
}));

// biome-ignore lint/style/noDefaultExport: dependency-cruiser reads the default export
export default {
  forbidden: [
    ...roomRules,
    {
      name: 'koffi-only-in-sys',
      comment: 'system calls are typed functions of sys/',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/sys/' },
      to: { path: 'node_modules/koffi' },
    },
    {
      name: 'generated-only-in-agent',
      comment: 'the generated contract is fenced off behind agent/',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/agent/' },
      to: { path: '^src/agent/generated/' },
    },
    { name: 'no-cycles', severity: 'error', from: { path: '^src/' }, to: { circular: true } },
    { name: 'no-tests-in-src', severity: 'error', from: { path: '^src/' }, to: { path: '^test/' } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node'] },
  },
};
