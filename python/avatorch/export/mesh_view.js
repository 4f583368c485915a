// A mesh that moves, in WebGL, and points beside it: drag to turn it, scroll to come nearer.
class MeshView {
  constructor(canvas, faces, { middle, distance, turn = 0.4, tilt = 0.05 }) {
    const gl = this.gl = canvas.getContext("webgl", { antialias: true, preserveDrawingBuffer: true });
    Object.assign(this, { faces, middle, distance, turn, tilt, points: null });
    const shared = "attribute vec3 place; attribute vec3 normal; uniform mat4 view; varying vec3 n;" +
      "void main() { gl_Position = view * vec4(place, 1.0); n = normal; gl_PointSize = 3.0; }";
    this.skin = this.program(shared, "precision mediump float; varying vec3 n; void main() { vec3 u = normalize(n);" +
      "float light = 0.35 + 0.6 * max(dot(u, vec3(0.43, 0.6, 0.68)), 0.0) + 0.15 * max(-u.x, 0.0);" +
      "gl_FragColor = vec4(pow(light * vec3(0.75, 0.62, 0.55), vec3(0.56)), 1.0); }");
    this.dots = this.program(shared, "precision mediump float; void main() { gl_FragColor = vec4(0.1, 0.35, 0.75, 1.0); }");
    this.buffers = { place: gl.createBuffer(), normal: gl.createBuffer(), points: gl.createBuffer() };
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, faces, gl.STATIC_DRAW);
    gl.enable(gl.DEPTH_TEST);
    canvas.onpointermove = event => {
      if (!event.buttons) return;
      this.turn -= event.movementX / 120;
      this.tilt = Math.max(-1.4, Math.min(1.4, this.tilt + event.movementY / 120));
      this.draw();
    };
    canvas.onwheel = event => {
      event.preventDefault();
      this.distance *= Math.exp(event.deltaY / 900);
      this.draw();
    };
  }
  program(vertex, fragment) {
    const gl = this.gl, made = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(made, shader);
    }
    gl.linkProgram(made);
    return made;
  }
  fill(name, values) {
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.buffers[name]);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, values, this.gl.DYNAMIC_DRAW);
  }
  show(place) {  // Float32Array, [vertex, xyz]
    this.fill("place", place);
    this.fill("normal", this.normals(place));
    this.draw();
  }
  setPoints(places) {  // Float32Array, [point, xyz], or null
    this.points = places;
    if (places) this.fill("points", places);
  }
  normals(p) {
    const normal = new Float32Array(p.length), faces = this.faces;
    for (let f = 0; f < faces.length; f += 3) {
      const a = 3 * faces[f], b = 3 * faces[f + 1], c = 3 * faces[f + 2];
      const ux = p[b] - p[a], uy = p[b + 1] - p[a + 1], uz = p[b + 2] - p[a + 2];
      const vx = p[c] - p[a], vy = p[c + 1] - p[a + 1], vz = p[c + 2] - p[a + 2];
      const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
      normal[a] += x; normal[a + 1] += y; normal[a + 2] += z;
      normal[b] += x; normal[b + 1] += y; normal[b + 2] += z;
      normal[c] += x; normal[c + 1] += y; normal[c + 2] += z;
    }
    return normal;
  }
  view() {
    const [c, s, d, e] = [Math.cos(this.turn), Math.sin(this.turn), Math.cos(this.tilt), Math.sin(this.tilt)];
    const f = 2.4, ratio = this.gl.canvas.height / this.gl.canvas.width;
    const far = 20, near = 0.1, k = -(far + near) / (far - near);
    const rows = [[c, 0, -s], [-e * s, d, -e * c], [d * s, e, d * c]];
    const shift = rows.map((row, i) => -row.reduce((sum, value, j) => sum + value * this.middle[j], i == 2 ? this.distance : 0));
    const out = [];
    for (let j = 0; j < 3; j++) out.push(f * ratio * rows[0][j], f * rows[1][j], k * rows[2][j], -rows[2][j]);
    out.push(f * ratio * shift[0], f * shift[1], k * shift[2] - 2 * far * near / (far - near), -shift[2]);
    return new Float32Array(out);
  }
  use(made, place, normal) {
    const gl = this.gl;
    gl.useProgram(made);
    gl.uniformMatrix4fv(gl.getUniformLocation(made, "view"), false, this.view());
    for (const [name, buffer] of [["place", place], ["normal", normal]]) {
      const at = gl.getAttribLocation(made, name);
      if (at < 0) continue;
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, 3, gl.FLOAT, false, 0, 0);
    }
  }
  draw() {
    const gl = this.gl, buffers = this.buffers;
    gl.clearColor(1, 1, 1, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    this.use(this.skin, buffers.place, buffers.normal);
    gl.drawElements(gl.TRIANGLES, this.faces.length, gl.UNSIGNED_SHORT, 0);
    if (this.points) {
      this.use(this.dots, buffers.points, buffers.points);
      gl.drawArrays(gl.POINTS, 0, this.points.length / 3);
    }
  }
  painted() {  // pixels that are not background
    const gl = this.gl, pixels = new Uint8Array(4 * gl.canvas.width * gl.canvas.height);
    gl.readPixels(0, 0, gl.canvas.width, gl.canvas.height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    let count = 0;
    for (let i = 0; i < pixels.length; i += 4) count += pixels[i] < 250 ? 1 : 0;
    return count;
  }
}
