import { Option } from 'commander';
import { formatDuration, formatMemory } from '../../base/units.ts';
import { exitCodes } from '../exitCodes.ts';
import { lineJson } from '../render/json.ts';
import type { Verb } from '../verb.ts';

interface StatusFlags {
  readonly format?: 'json';
}

export const daemonStatus: Verb = {
  configure(command) {
    command.addOption(new Option('--format <format>', 'A JSON object').choices(['json']));
  },

  async run(command, { deps, print }) {
    const { daemon, paths } = deps;
    const facts = {
      pid: daemon.pid,
      version: daemon.version,
      startedAt: new Date(daemon.startedAtMs).toISOString(),
      socket: paths.socket,
      root: paths.root,
      residentBytes: process.memoryUsage.rss(),
      activeCommands: daemon.activeCommands - 1,
    };
    if (command.opts<StatusFlags>().format === 'json') await print(`${lineJson(facts)}\n`);
    else {
      const up = formatDuration(deps.now() - daemon.startedAtMs);
      await print(
        `hrund ${facts.version}, pid ${facts.pid}, up ${up}\n` +
          `socket ${facts.socket}, root ${facts.root}\n` +
          `${formatMemory(facts.residentBytes)} resident, ${facts.activeCommands} other commands at work\n`,
      );
    }
    return exitCodes.ok;
  },
};
