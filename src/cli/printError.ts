import { isHrunError, messageOf } from '../base/errors.ts';
import { printable } from '../base/text.ts';

const maxMessageLength = 4000;

/** What a user reads of a failure: one line, and the hint on another. */
export function describeError(error: unknown): string {
  const lines = [`hrun: ${oneLine(messageOf(error))}`];
  if (isHrunError(error) && error.hint !== undefined) lines.push(`hint: ${oneLine(error.hint)}`);
  return `${lines.join('\n')}\n`;
}

/** A guest's last words may be several lines; each stays one, and none moves the cursor. */
function oneLine(text: string): string {
  return text
    .split('\n')
    .map((line) => printable(line, maxMessageLength))
    .join('\n');
}
