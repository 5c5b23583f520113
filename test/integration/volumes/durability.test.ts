import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect } from 'chai';
import { makeDisk } from '../../helpers/disks.ts';
import { type HrunHost, newHrunHost } from '../../helpers/hrunHost.ts';
import { writeToolImage } from '../../helpers/toolImage.ts';

const rounds = Number(process.env.HRUN_DURABILITY_ROUNDS ?? 10);
/** Upper bound of the commits that a round waits for before it kills. */
const mostCommits = 12;

/**
 * What a microVM that is killed leaves of what it said was safe. QEMU gets SIGKILL: the guest's memory is gone, as when the
 * power fails; only what reached the host's files is there.
 */
describe('what was synced in a guest', () => {
  let host: HrunHost;

  before(async function () {
    this.timeout(300_000);
    host = await newHrunHost({ config: { poolReady: 0 } });
    const layout = join(host.directory, 'layout');
    await writeToolImage(layout, '/usr/bin/sqlite3');
    await host.ok(['load', '--input', layout]);
    await makeDisk(join(host.directory, 'disk.raw'));
    await host.ok(['volume', 'create', '--driver', 'disk', '--size', '64m', 'block']);
  });
  after(() => host[Symbol.asyncDispose]());

  const places: readonly [string, () => string[]][] = [
    ['a bind', () => ['-v', `${join(host.directory, 'bound')}:/data`]],
    ['a volume that is a directory', () => ['-v', 'files:/data']],
    ['a volume that is a disk', () => ['-v', 'block:/data']],
    ['a disk', () => ['--mount', `type=disk,src=${join(host.directory, 'disk.raw')},dst=/data`]],
  ];

  /** Runs `script` and kills its QEMU as soon as it has printed a line that `isEnough`; all lines that were read. */
  async function killedAfter(
    flags: string[],
    script: string,
    isEnough: (line: string) => boolean,
  ): Promise<string[]> {
    const name = `killed-${process.hrtime.bigint()}`;
    const child = host.start(
      ['run', '--name', name, ...flags, 'sqlite3', '/bin/busybox', 'sh', '-c', script],
      {
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    );
    const closed = once(child, 'close');
    if (child.stdout === null) throw new Error('no stdout');
    const lines: string[] = [];
    let pid = 0;
    for await (const line of createInterface({ input: child.stdout })) {
      // asked for once it runs, so that nothing comes between the line and the kill
      pid ||= Number(await host.ok(['inspect', '-f', '{{.State.VmPid}}', name]));
      lines.push(line);
      if (isEnough(line)) process.kill(pid, 'SIGKILL');
    }
    await closed;
    expect(child.exitCode).to.equal(137);
    await host.ok(['rm', name]);
    return lines;
  }

  for (const [where, flags] of places) {
    it(`is there on ${where}`, async () => {
      const script = [
        'echo ready',
        '/bin/busybox dd if=/dev/urandom of=/data/synced bs=64k count=16 conv=fsync 2>/dev/null',
        '/bin/busybox sha256sum /data/synced',
        'exec /bin/busybox sleep 1000',
      ].join('; ');
      const lines = await killedAfter(flags(), script, (line) => line.includes('synced'));
      const sum = '/bin/busybox sha256sum /data/synced';
      const found = await host.ok(['run', '--rm', ...flags(), 'sqlite3', '/bin/busybox', 'sh', '-c', sum]);
      expect([found]).to.deep.equal(lines.slice(1));
    });

    it(`is every row that SQLite committed on ${where}, ${rounds} times killed`, async function () {
      this.timeout(60_000 + rounds * 20_000);
      // "extra" (sqlite.org/pragma.html#pragma_synchronous): with less, a commit is the removal of a journal that is not synced
      const script = [
        'sql() { sqlite3 -cmd "pragma synchronous=extra" /data/rows.db "$1"; }',
        'sql "create table if not exists rows(n integer primary key, filler text)" || exit 1',
        'sql "pragma integrity_check; select ifnull(max(n), 0), count(*) from rows"',
        'n=$(sql "select ifnull(max(n), 0) from rows")',
        'while n=$((n + 1)); do',
        '  sql "insert into rows values($n, hex(randomblob(2000)))" || exit 1',
        '  echo $n',
        'done',
      ].join('\n');
      let committed = 0;
      for (let round = 1; round <= rounds; round += 1) {
        const stopAfter = 2 + Math.floor(Math.random() * mostCommits);
        let heard = 0;
        const lines = await killedAfter(flags(), script, () => ++heard === stopAfter + 2);
        const [integrity, before = '', ...numbers] = lines;
        expect(integrity, `round ${round}`).to.equal('ok');
        const [max, count] = before.split('|').map(Number);
        expect(max, `round ${round}: rows that were committed`).to.be.at.least(committed);
        expect(count, `round ${round}: rows without a gap`).to.equal(max);
        committed = Number(numbers.at(-1) ?? max);
      }
    });
  }
});
