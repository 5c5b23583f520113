import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { errnoOf, HrunError, messageOf } from '../../base/errors.ts';

const Plugin = z.looseObject({ type: z.string().regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/) });
const ConfigList = z.object({
  cniVersion: z.string().default('0.3.1'),
  name: z.string().min(1),
  /** Plugins that cannot tell whether their work is still there. */
  disableCheck: z.boolean().optional(),
  plugins: z.array(Plugin).min(1),
});
/** A network configuration list (CNI specification, section 1). */
export type CniConfig = z.infer<typeof ConfigList>;

/**
 * The configuration of a name in a directory; files are looked at in the order of their names, as libcni does.
 * @throws HrunError NOT_FOUND, or INVALID_CONFIG naming the file that is broken
 */
export async function findCniConfig(directory: string, name: string): Promise<CniConfig> {
  const files = await readdir(directory).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  });
  for (const file of files.filter((of) => /\.(conflist|conf|json)$/.test(of)).sort()) {
    const path = join(directory, file);
    const json = readJson(await readFile(path, 'utf8'), path);
    if (!isNamed(json, name)) continue;
    // one plugin alone is a list of one
    const list = file.endsWith('.conflist') ? json : { ...json, plugins: [json] };
    const parsed = ConfigList.safeParse(list);
    if (parsed.success) return parsed.data;
    throw new HrunError(
      'INVALID_CONFIG',
      `${path} is no CNI configuration: ${parsed.error.issues[0]?.message}`,
      {
        cause: parsed.error,
      },
    );
  }
  throw new HrunError('NOT_FOUND', `no CNI configuration in ${directory} is named "${name}"`);
}

function isNamed(json: unknown, name: string): json is Readonly<Record<string, unknown>> {
  return typeof json === 'object' && json !== null && 'name' in json && json.name === name;
}

function readJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new HrunError('INVALID_CONFIG', `${path} is not JSON: ${messageOf(cause)}`, { cause });
  }
}
