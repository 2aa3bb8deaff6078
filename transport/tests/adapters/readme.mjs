// The guide's chapter on adapters in other processes, word for word: its configuration and its programs, with the SDKs that
// it names, seen by an official client. Only the ports are others, since somebody may listen there.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { ROOT } from '../peers/support/server.mjs';
import { connect, freePorts, startRemote, startServer, subscribe } from './support.mjs';

const chapter = readFileSync(join(ROOT, 'transport/src/adapter/README.md'), 'utf8')
  .split('\n## ').find((text) => text.startsWith('Adapters in other processes'));

/** The chapter's code in one language. */
function code(language) {
  const [, found] = new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, 's').exec(chapter);
  return found;
}

describe('the adapters of the guide', () => {
  for (const [set, language, file, named] of [
    ['PROXY_PYTHON', 'python', 'adapters.py', [8001, 8003]],
    ['PROXY_NODE', 'js', 'adapters.cjs', [9001, 9002, 9003]],
  ]) {
    test(set, async () => {
      const directory = mkdtempSync(join(tmpdir(), 'brightwire-readme-'));
      const ports = await freePorts(named.length);
      const moved = (text) => named.reduce((moved, port, index) => {
        assert.ok(moved.includes(port), `port ${port}`);
        return moved.replaceAll(port, ports[index]);
      }, text);
      // The set is the part of the file that begins with its name.
      const sets = code('toml').split('[[adapter_sets]]\n').filter((text) => text.includes(`"${set}"`));
      assert.equal(sets.length, 1);
      const server = await startServer(moved(`[[adapter_sets]]\n${sets[0]}`));
      const program = join(directory, file);
      writeFileSync(program, moved(code(language)));
      const remote = startRemote(program);
      await server.logged('a remote data adapter is there');
      await server.logged('a remote metadata adapter is there');

      const client = await connect(server, set);
      const seen = subscribe(client, { items: ['world'], fields: ['message', 'count'] });
      await seen.until(({ updates }) => updates.filter(({ message }) => message).length >= 2, 'two greetings');
      const [first, second] = seen.updates.filter(({ message }) => message);
      assert.deepEqual([first.message, Number(second.count)], ['Hello, world!', Number(first.count) + 1]);
      client.client.sendMessage('good morning');
      await remote.said('A client says: good morning');
      await client.disconnect();
      await server.stop();
      await remote.kill();
      rmSync(directory, { recursive: true });
    });
  }
});
