const area = element.querySelector('.dn-drop');
const input = area.querySelector('input');
const hint = area.querySelector('span');
const said = hint.textContent;

async function send(file) {
  if (!file) return;
  const page = window.deeplabNative;
  page.say('');
  page.wait();
  hint.textContent = `Sending ${file.name} …`;
  try {
    const answer = await fetch(`upload/${area.dataset.what}/${page.secret}`, {
      method: 'POST', body: file, headers: {'x-name': encodeURIComponent(file.name)},
    });
    const found = await answer.json();
    if (found.error) page.say(found.error);
    else trigger('upload');
  } catch (error) {
    page.say(`${file.name}: could not be sent (${error.message})`);
  }
  hint.textContent = said;
  input.value = '';
}

input.addEventListener('change', () => send(input.files[0]));
area.addEventListener('dragover', (event) => {
  event.preventDefault();
  area.classList.add('dn-over');
});
area.addEventListener('dragleave', () => area.classList.remove('dn-over'));
area.addEventListener('drop', (event) => {
  event.preventDefault();
  area.classList.remove('dn-over');
  send(event.dataTransfer.files[0]);
});
