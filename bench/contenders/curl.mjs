// curl to nginx, which stores what is PUT: its WebDAV module.
import { writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { accepting, find, freePort, launch, run, stop } from '../processes.mjs'

export const curl = {
  name: 'curl -T to nginx',

  async prepare() {
    const missing = ['curl', 'nginx'].filter((program) => !find(program))
    if (missing.length > 0) throw new Error(`not installed: ${missing.join(', ')}`)
    const { stderr } = await run(find('nginx'), '-V')
    if (!stderr.includes('http_dav_module')) throw new Error('this nginx is built without its dav module')
    const { stdout } = await run(find('curl'), '--version')
    this.version = `curl ${stdout.split(' ')[1]}, nginx ${/nginx\/(\S+)/.exec(stderr)[1]}`
  },

  async start(folder, root) {
    const port = await freePort()
    const config = join(folder, `nginx-${port}.conf`)
    writeFileSync(config, configuration({ folder, root, port }))
    const server = launch(find('nginx'), '-c', config, '-p', folder)
    await accepting(server, port)
    return {
      async push(source) {
        const url = `http://127.0.0.1:${port}/copy`
        // Whatever is set up on this machine: no ~/.curlrc (-q has to come first), no proxy.
        const options = ['-q', '--silent', '--show-error', '--fail', '--noproxy', '*']
        const { seconds } = await run(find('curl'), ...options, '-T', source, url)
        return { process_s: seconds }
      },
      stop: () => stop(server),
    }
  },
}

/** Bodies are collected in the file system of the root, so that a stored file is renamed and not copied. */
function configuration({ folder, root, port }) {
  const at = (name) => join(folder, `nginx-${name}`)
  // As root its workers would otherwise become somebody who may not write there.
  const identity = process.getuid() === 0 ? `user ${userInfo().username};` : ''
  return `
daemon off;
worker_processes auto;
pid ${at('pid')};
error_log ${at('log')};
${identity}
events {}
http {
  access_log off;
  client_max_body_size 0;
  client_body_temp_path ${at('body')};
  proxy_temp_path ${at('proxy')};
  fastcgi_temp_path ${at('fastcgi')};
  uwsgi_temp_path ${at('uwsgi')};
  scgi_temp_path ${at('scgi')};
  server {
    listen 127.0.0.1:${port};
    root ${root};
    location / { dav_methods PUT; }
  }
}
`
}
