import { randomInt } from 'node:crypto';

const adjectives =
  'able agile amber ample ardent avid balmy blithe bold brave bright brisk calm candid cheery civil clever cosmic crisp daring deft eager earnest fair fleet frank fresh gentle giddy golden grand happy hardy honest humble jolly keen kind lively lucid lucky merry mild modest neat nimble noble patient placid plucky polite proud quick quiet ready robust serene sharp shiny sleek smart snug sober solid spry steady stoic sunny swift tidy tranquil vivid warm wise witty zesty'.split(
    ' ',
  );

/** People whose work virtual machines and operating systems stand on. */
const surnames =
  'allen babbage bartik booth brooks cerf church clarke corbato creasy dijkstra engelbart feynman gelernter goldberg gray hamilton hoare holberton hopper iverson kay keller kilburn knuth lamarr lamport liskov lovelace mcilroy mccarthy moore naur neumann perlis popek ritchie rosenblum saltzer shannon stallman steele sutherland tanenbaum thompson torvalds turing wilkes wirth zuse'.split(
    ' ',
  );

/** A name such as `calm_lovelace` that `taken` does not know. */
export function inventName(taken: (name: string) => boolean): string {
  for (let attempt = 0; ; attempt++) {
    const pair = `${pick(adjectives)}_${pick(surnames)}`;
    const name = attempt < 8 ? pair : `${pair}${randomInt(10_000)}`;
    if (!taken(name)) return name;
  }
}

function pick(words: readonly string[]): string {
  return words[randomInt(words.length)] ?? '';
}
