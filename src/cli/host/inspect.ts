import { type Command, Option } from 'commander';
import { HrunError, isHrunError } from '../../base/errors.ts';
import type { Engine } from '../../runtime/engine.ts';
import type { Context } from '../deps.ts';
import { exitCodes } from '../exitCodes.ts';
import { describeError } from '../printError.ts';
import { inspectContainer } from '../render/inspectContainer.ts';
import { inspectImage } from '../render/inspectImage.ts';
import { lineJson, prettyJson } from '../render/json.ts';
import { compileTemplate } from '../render/template.ts';
import type { Verb } from '../verb.ts';

interface InspectFlags {
  readonly format?: string;
  readonly type?: 'container' | 'image';
}

type Inspect = (name: string, engine: Engine, signal: AbortSignal) => Promise<object>;

const ofContainer: Inspect = async (name, engine, signal) =>
  inspectContainer(await engine.containers.inspect(name, signal));

const ofImage: Inspect = async (name, engine, signal) =>
  inspectImage(await engine.images.inspect(name, signal));

const ofEither: Inspect = async (name, engine, signal) => {
  try {
    return await ofContainer(name, engine, signal);
  } catch (error) {
    if (!isHrunError(error, 'NOT_FOUND')) throw error;
  }
  try {
    return await ofImage(name, engine, signal);
  } catch (error) {
    if (!isHrunError(error, 'IMAGE_UNKNOWN') && !isHrunError(error, 'INVALID_ARGUMENT')) throw error;
    throw new HrunError('NOT_FOUND', `no such object: ${name}`);
  }
};

export const inspect: Verb = {
  configure(command) {
    addFormat(command);
    command.addOption(new Option('--type <type>', 'Only one kind').choices(['container', 'image']));
  },
  run(command, context) {
    const { type } = command.opts<InspectFlags>();
    return inspectAll(
      command,
      context,
      type === 'container' ? ofContainer : type === 'image' ? ofImage : ofEither,
    );
  },
};

export const containerInspect: Verb = {
  configure: addFormat,
  run: (command, context) => inspectAll(command, context, ofContainer),
};

export const imageInspect: Verb = {
  configure: addFormat,
  run: (command, context) => inspectAll(command, context, ofImage),
};

function addFormat(command: Command): void {
  command.option('-f, --format <format>', 'json, or a Go template');
}

/** What was found is shown even if something else was not. */
async function inspectAll(command: Command, context: Context, look: Inspect): Promise<number> {
  const { format } = command.opts<InspectFlags>();
  const template = format === undefined || format === 'json' ? undefined : compileTemplate(format);
  const engine = await context.deps.engine();
  const found: object[] = [];
  const failures: HrunError[] = [];
  for (const name of command.args) {
    try {
      found.push(await look(name, engine, context.signal));
    } catch (error) {
      if (!isHrunError(error) || context.signal.aborted) throw error;
      failures.push(error);
    }
  }
  if (template !== undefined) await context.print(found.map((object) => `${template(object)}\n`).join(''));
  else await context.print(`${format === 'json' ? lineJson(found) : prettyJson(found)}\n`);
  for (const failure of failures) await context.complain(describeError(failure));
  return failures.length === 0 ? exitCodes.ok : exitCodes.failed;
}
