// words.js: what the page says, in English and Russian.

const en = {
  skip: "Skip to content", views: "Views", queues: "Queues", failures: "Failures", schedules: "Schedules", processes: "Processes",
  mails: "Mails",
  all_well: "All is well", problems: "{n} need attention", problem: "1 needs attention", unreachable: "pgmqd does not answer",
  unreachable_since: "pgmqd does not answer; figures are from {time}.",
  token: "Token", token_on: "Token ✓", token_bad: "Token: wrong", theme_light: "Light colours", theme_dark: "Dark colours",
  theme_auto: "System colours",
  settled_chart: "Settled per minute", latency_chart: "Wait before start", filter: "Find a queue",
  queue: "Queue", state: "State", last_minutes: "Last 10 minutes", per_minute: "Per minute", waiting: "Waiting", in_flight: "In flight",
  oldest: "Longest wait", latency: "Wait, p50 / p99", dead: "Dead", details: "Details", tile_rate: "Settled", tile_waiting: "Waiting",
  tile_oldest: "Longest wait", tile_latency: "Wait, p50 / p99", tile_dead: "Dead letters", tile_flight: "In flight",
  sub_delayed: "{n} delayed", sub_now: "nothing is due", sub_failures: "show failures", sub_none: "none",
  sub_minute: "in the last minute",
  done: "done", retried: "retried", failed: "dead-lettered", p50: "p50", p99: "p99", now: "now", minutes_ago: "{n} min ago",
  nothing_yet: "Nothing in this time",
  state_ready: "ready", state_starting: "starting", state_connecting: "connecting", state_paused: "paused", state_draining: "draining",
  state_restarting: "restarting", state_crash_loop: "keeps crashing", state_config_error: "wrong settings", state_stopped: "stopped",
  state_none: "not served here", state_silent: "not responding", state_unknown: "unknown", state_claims_fail: "cannot claim",
  no_queues: "There are no queues yet: pgmqd migrate makes the first ones.", no_match: "No queue has that in its name.",
  loading: "Loading…",
  email_provider_circuit: "{value}", email_sent_total: "Sent by {value}", email_refused_total: "Refused by {value}", circuit_0: "in use",
  circuit_1: "not used after failures", circuit_2: "being tried again",
  next_due: "Next due", kept_by_rate: "Waiting for the rate", kept_by_key: "Waiting for a place of their key", kept_by_place: "Waiting for a place of the queue",
  kept_by_pause: "Waiting since their key is paused",
  key_said: "Key “{key}”", key_paused: "paused by {by}", key_held: "held until {at}", key_weight: "weight {n}", key_waiting: "{n} waiting",
  restarts: "Restarts", lease_lost: "Leases lost", released: "Returned to the queue", last_error: "Last error",
  plugin: "Plugin", not_attached: "{queue}: no notifications for new messages, so it is only polled. Run: SELECT pgmqd.attach_queue('{queue}')",
  not_served: "{queue}: no worker here serves it, and messages wait: {n}",
  paused_note: "{queue}: paused", paused_by: "{queue}: paused ({by})", paused_why: "{queue}: paused ({by}): {why}",
  pause: "Pause", resume: "Resume", paused_ok: "Paused {queue}", resumed_ok: "Resumed {queue}", pause_title: "Pause {queue}?",
  pause_text: "Messages wait until the queue is resumed. Messages in flight are finished.", why: "Reason (others will see it)",
  show_dead: "Dead letters", failures_title: "Failures, grouped by reason", no_failures: "No dead letters: no message has failed for good.",
  show_letters: "Show letters", dead_letters: "Dead letters", letters_of: "Dead letters of {queue}", reason: "Reason",
  reason_filter: "Filter by reason", redrive: "Requeue", purge: "Delete", select_all: "Select all dead letters shown",
  select_one: "Select dead letter {id}",
  id: "Id", died: "Died", class: "Class", attempts: "Attempts", body: "Body", headers: "Headers", body_of: "Dead letter {id} of {queue}",
  class_permanent: "permanent", class_attempts: "out of attempts", class_crash: "crash", class_memory: "too large", class_forged: "forged",
  class_expired: "too late", class_suppressed: "suppressed", class_unknown: "may have been sent",
  no_letters: "No dead letters here.", more: "Show older",
  redrive_title: "Requeue {n} dead letters in {queue}?", redrive_title_1: "Requeue 1 dead letter in {queue}?",
  redrive_text: "Their attempts start again at 1; their history is kept.",
  purge_title: "Permanently delete {n} dead letters?", purge_title_1: "Permanently delete 1 dead letter?",
  purge_text: "They are deleted from the database. This cannot be undone.",
  redriven: "{n} requeued", purged: "{n} deleted", original_id: "Original id", first_enqueued: "First enqueued",
  redrives: "Times requeued",
  name: "Name", when: "When", runner: "Run by", last_run: "Last run", last_runs: "Recent runs", no_schedules: "There are no schedules.",
  disabled: "disabled", taken_over: "run by pgmqd: pg_cron is not running", run_ok: "ok", run_failed: "failed",
  run_skipped: "skipped", never: "never",
  process: "Process", pid: "PID", uptime: "Uptime", stall: "Longest callback", role_listener: "listener", role_control: "control",
  role_worker: "worker", role_supervisor: "supervisor",
  mails_title: "Mail templates with sample data", preview: "Preview", template: "Template", language: "Language", screen: "Screen",
  light: "Light", dark: "Dark", desktop: "Desktop", phone: "Phone", plain_text: "Plain text", subject: "Subject",
  no_templates: "There are no templates.",
  metrics: "Metrics", token_title: "Access token",
  token_text: "Needed to make changes and to read message bodies. It is http_token in the settings, or one of http_people; the page keeps it in this tab only.",
  token_label: "Token", token_save: "Save", token_forget: "Forget", token_wrong: "Wrong token",
  token_unset: "This pgmqd has no token yet. Make one with openssl rand -hex 32, and set it as http_token, or as PGMQD_HTTP_TOKEN in its environment.", cancel: "Cancel", close: "Close",
  deaf: "Not receiving notifications (a pooler in transaction mode in between?): queues are polled.",
  db_down: "Database unreachable; queue sizes are from {time}.", db_down_new: "Database unreachable.",
  process_down: "{name} is not running ({state}).", process_silent: "{name} is not responding.",
  process_unconnected: "{name} is not connected to the database.", claims_fail: "{name} cannot claim messages.", crash: "{name} keeps crashing; restarted with growing delays.",
  config: "{name} cannot work with its settings.", needs_token: "This page needs the access token.",
  give_token: "Enter token", s: "s", ms: "ms", min: "min", h: "h", d: "d", version: "pgmqd {version}, up for {uptime}",
  span: "Span of the charts", span_10m: "10 min", span_1h: "1 h", span_24h: "24 h", span_30d: "30 d", time_ago: "{time} ago", dispatchers: "Dispatchers of this database", dispatcher: "Host and process",
  version_word: "Version", started: "Started", seen: "Last seen", alive: "alive", gone: "gone",
  messages: "Messages", message_live: "Live", message_waiting: "waiting", message_delayed: "delayed", message_running: "running", message_archived: "archived",
  message_cancelled: "cancelled", message_dead: "dead", since: "Since", where: "Body or headers: key=value", show: "Show", group: "Group", priority: "Priority",
  no_messages: "No messages here.", messages_further: "None among the newest; the search can go on further back.", select_message: "Select message {id}", select_messages: "Select all messages shown",
  cancelled_by: "cancelled by {by}", attempts_least: "Attempts", attempts_any: "Any attempts", age: "Age", age_any: "Any age", age_new_10m: "Newer than 10 min", age_new_1h: "Newer than 1 h",
  age_old_1h: "Older than 1 h", age_old_1d: "Older than 1 day", message_of: "Message {id} of {queue}", life: "What happened", lease_until: "Lease until", trace: "Trace", worker: "Worker", cancel_asked: "Cancel asked by",
  attempt_n: "attempt {n}", life_enqueued: "enqueued", life_retried: "failed, to be tried again:", life_archived: "done", life_cancelled: "cancelled", life_dead: "dead-lettered",
  life_requeued: "requeued", life_cancel: "cancel asked", "life_run-now": "made due now", life_delay: "delayed", life_edit: "body edited", life_requeue: "requeued", mail_template: "Mail template",
  "do_run-now": "Run now", do_delay: "Delay", do_cancel: "Cancel", do_requeue: "Requeue", do_edit: "Edit body", do_save: "Save body",
  "do_run-now_all": "Run all now…", do_delay_all: "Delay all…", do_cancel_all: "Cancel all…", do_requeue_all: "Requeue all…",
  "run-now_ask": "Run {n} messages of {queue} now?", "run-now_text": "Delayed messages become due at once.", delay_ask: "Delay {n} messages of {queue}?", delay_text: "They are due so long from now.",
  delay_by: "Due in", delay_1m: "1 minute", delay_10m: "10 minutes", delay_1h: "1 hour", delay_1d: "1 day",
  cancel_ask: "Cancel {n} messages of {queue}?", cancel_text: "They are archived as cancelled. Those that run are stopped by their workers; one that is done by then stays done.",
  requeue_ask: "Requeue {n} messages of {queue}?", requeue_text: "They become new messages; their attempts start again at 1, their history is kept.",
  "did_run-now": "{n} due now", did_delay: "{n} delayed", did_cancel: "{n} cancelled", did_requeue: "{n} requeued", did_edit: "{n} edited", did_ask: "{n} running: their workers were told", did_refuse: "{n} refused: changed meanwhile",
  any_state: "Any state", sort: "Order", sort_by: "By {name}", all_queues: "All queues", all_dispatchers: "All dispatchers", enabled: "enabled", took: "Took", cron_text: "When (cron)", zone: "Time zone", next_times: "Next five times, in this zone", do_save_times: "Save times",
  schedule_run_ask: "Run {name} now?", schedule_run_text: "Its regular times stay as they are.", schedule_started: "{name} runs; its outcome appears here",
  schedule_paused: "Paused {name}", schedule_resumed: "Resumed {name}", schedule_saved: "Saved the times of {name}",
  role_none: "none", role_look: "look", role_bodies: "look at bodies", role_act: "act", token_role: "This token may only {role}; enter one that may do this.",
  rights_unset: "Read-only: there is no token yet. Make one with openssl rand -hex 32 and set it as http_token, or as PGMQD_HTTP_TOKEN in the environment.",
  rights_guest: "Read-only: changes need an access token.", rights_look: "Read-only: this token may look.", rights_bodies: "Read-only: this token may look, also at bodies.",
  error: "Failed: {message}",
};

const ru = {
  skip: "К содержанию", views: "Разделы", queues: "Очереди", failures: "Сбои", schedules: "Расписания", processes: "Процессы",
  mails: "Письма",
  all_well: "Всё в порядке", problems: "Требуют внимания: {n}", problem: "Требует внимания: 1", unreachable: "pgmqd не отвечает",
  unreachable_since: "pgmqd не отвечает; данные на {time}.",
  token: "Токен", token_on: "Токен ✓", token_bad: "Токен неверный", theme_light: "Светлая тема", theme_dark: "Тёмная тема",
  theme_auto: "Тема системы",
  settled_chart: "Обработано в минуту", latency_chart: "Ожидание до начала обработки", filter: "Найти очередь",
  queue: "Очередь", state: "Состояние", last_minutes: "За 10 минут", per_minute: "В минуту", waiting: "Ожидают", in_flight: "В работе",
  oldest: "Дольше всех ждёт", latency: "Ожидание, p50 / p99", dead: "Не обработаны", details: "Подробности", tile_rate: "Обработано",
  tile_waiting: "Ожидают",
  tile_oldest: "Дольше всех ждёт", tile_latency: "Ожидание, p50 / p99", tile_dead: "Не обработаны", tile_flight: "В работе",
  sub_delayed: "отложены: {n}", sub_now: "никто не ждёт", sub_failures: "показать сбои", sub_none: "нет", sub_minute: "за минуту",
  done: "выполнено", retried: "повтор", failed: "не обработано", p50: "p50", p99: "p99", now: "сейчас", minutes_ago: "{n} мин назад",
  nothing_yet: "За это время ничего",
  state_ready: "работает", state_starting: "запускается", state_connecting: "подключается", state_paused: "на паузе",
  state_draining: "завершает работу",
  state_restarting: "перезапускается", state_crash_loop: "постоянно падает", state_config_error: "ошибка настроек",
  state_stopped: "остановлен", state_none: "здесь не обслуживается", state_silent: "не отвечает", state_unknown: "нет данных", state_claims_fail: "не берёт сообщения",
  no_queues: "Очередей пока нет: первые создаст pgmqd migrate.", no_match: "Таких очередей нет.", loading: "Загрузка…",
  email_provider_circuit: "{value}", email_sent_total: "Отправлено через {value}", email_refused_total: "Отказов {value}",
  circuit_0: "используется", circuit_1: "не используется после сбоев", circuit_2: "проверяется",
  next_due: "Следующее", kept_by_rate: "Ждут лимита скорости", kept_by_key: "Ждут места своего ключа", kept_by_place: "Ждут места очереди",
  kept_by_pause: "Ждут: ключ на паузе",
  key_said: "Ключ «{key}»", key_paused: "на паузе ({by})", key_held: "задержан до {at}", key_weight: "вес {n}", key_waiting: "ждут: {n}",
  restarts: "Перезапуски", lease_lost: "Потеряно блокировок", released: "Возвращено в очередь",
  last_error: "Последняя ошибка",
  plugin: "Плагин", not_attached: "{queue}: о новых сообщениях нет уведомлений, очередь только опрашивается. Выполните: SELECT pgmqd.attach_queue('{queue}')",
  not_served: "{queue}: здесь не обслуживается, ожидают: {n}",
  paused_note: "{queue}: на паузе", paused_by: "{queue}: на паузе ({by})", paused_why: "{queue}: на паузе ({by}): {why}",
  pause: "Пауза", resume: "Продолжить", paused_ok: "{queue}: на паузе", resumed_ok: "{queue}: работа продолжена",
  pause_title: "Поставить {queue} на паузу?", pause_text: "Сообщения подождут. Начатое будет закончено.",
  why: "Причина (её увидят другие)",
  show_dead: "Не обработаны", failures_title: "Сбои по причинам", no_failures: "Все сообщения обработаны.",
  show_letters: "Показать сообщения", dead_letters: "Необработанные сообщения",
  letters_of: "Необработанные сообщения: {queue}", reason: "Причина", reason_filter: "Поиск по причине", redrive: "Вернуть в очередь",
  purge: "Удалить", select_all: "Выбрать все показанные", select_one: "Выбрать сообщение {id}",
  id: "Номер", died: "Когда", class: "Вид сбоя", attempts: "Попытки", body: "Содержимое", headers: "Заголовки",
  class_permanent: "постоянный", class_attempts: "попытки исчерпаны", class_crash: "падение", class_memory: "слишком велико", class_forged: "подделка",
  class_expired: "опоздало", class_suppressed: "адрес исключён", class_unknown: "возможно, отправлено",
  body_of: "Сообщение {id} из {queue}", no_letters: "Необработанных сообщений нет.", more: "Показать более старые",
  redrive_title: "Вернуть в {queue} сообщения ({n})?", redrive_title_1: "Вернуть сообщение в {queue}?",
  redrive_text: "Попытки начнутся заново; история сохранится.",
  purge_title: "Удалить навсегда сообщения ({n})?", purge_title_1: "Удалить сообщение навсегда?",
  purge_text: "Сообщения будут удалены из базы данных. Вернуть их нельзя.",
  redriven: "Возвращено: {n}", purged: "Удалено: {n}", original_id: "Исходный номер", first_enqueued: "Поставлено в очередь",
  redrives: "Возвращали раз",
  name: "Название", when: "Когда", runner: "Выполняет", last_run: "Последний запуск", last_runs: "Недавние запуски",
  no_schedules: "Расписаний нет.", disabled: "выключено", taken_over: "выполняет pgmqd: pg_cron не работает", run_ok: "успешно",
  run_failed: "сбой", run_skipped: "пропущено", never: "ещё не было",
  process: "Процесс", pid: "PID", uptime: "Работает", stall: "Самый долгий вызов", role_listener: "слушатель", role_control: "управление",
  role_worker: "обработчик", role_supervisor: "супервизор",
  mails_title: "Шаблоны писем с примерами данных", preview: "Просмотр", template: "Шаблон", language: "Язык", screen: "Экран",
  light: "Светлый", dark: "Тёмный", desktop: "Компьютер", phone: "Телефон", plain_text: "Простой текст", subject: "Тема",
  no_templates: "Шаблонов нет.",
  metrics: "Метрики", token_title: "Токен доступа",
  token_text: "Нужен, чтобы вносить изменения и читать содержимое сообщений. Это http_token или один из http_people в настройках; страница хранит его только в этой вкладке.",
  token_label: "Токен", token_save: "Сохранить", token_forget: "Забыть", token_wrong: "Неверный токен",
  token_unset: "У этого pgmqd ещё нет токена. Создайте его командой openssl rand -hex 32 и задайте как http_token или PGMQD_HTTP_TOKEN в его окружении.", cancel: "Отмена", close: "Закрыть",
  deaf: "Уведомления не доходят (возможно, на пути пулер в режиме transaction): очереди опрашиваются.",
  db_down: "База данных недоступна; длины очередей на {time}.", db_down_new: "База данных недоступна.",
  process_down: "{name}: не работает ({state}).", process_silent: "{name}: не отвечает.",
  process_unconnected: "{name}: нет связи с базой данных.", claims_fail: "{name}: не удаётся брать сообщения.", crash: "{name}: постоянно падает; перезапускается с паузами.",
  config: "{name}: с такими настройками работать нельзя.", needs_token: "Для этой страницы нужен токен доступа.",
  give_token: "Ввести токен", s: "с", ms: "мс", min: "мин", h: "ч", d: "д", version: "pgmqd {version}, работает {uptime}",
  span: "Период графиков", span_10m: "10 мин", span_1h: "1 ч", span_24h: "24 ч", span_30d: "30 дн", time_ago: "{time} назад", dispatchers: "Диспетчеры этой базы", dispatcher: "Узел и процесс",
  version_word: "Версия", started: "Запущен", seen: "Последний сигнал", alive: "работает", gone: "нет",
  messages: "Сообщения", message_live: "Текущие", message_waiting: "ожидают", message_delayed: "отложены", message_running: "в работе", message_archived: "в архиве",
  message_cancelled: "отменены", message_dead: "не обработаны", since: "С", where: "Тело или заголовки: ключ=значение", show: "Показать", group: "Группа", priority: "Приоритет",
  no_messages: "Здесь нет сообщений.", messages_further: "Среди новых нет; можно искать дальше.", select_message: "Выбрать сообщение {id}", select_messages: "Выбрать все показанные сообщения",
  cancelled_by: "отменил(а) {by}", attempts_least: "Попытки", attempts_any: "Любое число попыток", age: "Возраст", age_any: "Любой возраст", age_new_10m: "Новее 10 мин", age_new_1h: "Новее 1 ч",
  age_old_1h: "Старше 1 ч", age_old_1d: "Старше 1 дня", message_of: "Сообщение {id} очереди {queue}", life: "Что произошло", lease_until: "Аренда до", trace: "Трасса", worker: "Обработчик", cancel_asked: "Отмену запросил(а)",
  attempt_n: "попытка {n}", life_enqueued: "поставлено в очередь", life_retried: "сбой, будет повтор:", life_archived: "выполнено", life_cancelled: "отменено", life_dead: "не обработано",
  life_requeued: "возвращено в очередь", life_cancel: "запрошена отмена", "life_run-now": "запущено сейчас", life_delay: "отложено", life_edit: "тело изменено", life_requeue: "возвращено в очередь", mail_template: "Шаблон письма",
  "do_run-now": "Запустить сейчас", do_delay: "Отложить", do_cancel: "Отменить", do_requeue: "Вернуть в очередь", do_edit: "Изменить тело", do_save: "Сохранить тело",
  "do_run-now_all": "Запустить все…", do_delay_all: "Отложить все…", do_cancel_all: "Отменить все…", do_requeue_all: "Вернуть все…",
  "run-now_ask": "Запустить сейчас сообщения очереди {queue}: {n}?", "run-now_text": "Отложенные сообщения будут обработаны сразу.", delay_ask: "Отложить сообщения очереди {queue}: {n}?", delay_text: "Срок отсчитывается от текущего времени.",
  delay_by: "Срок через", delay_1m: "1 минуту", delay_10m: "10 минут", delay_1h: "1 час", delay_1d: "1 день",
  cancel_ask: "Отменить сообщения очереди {queue}: {n}?", cancel_text: "Они попадут в архив как отменённые. Те, что в работе, остановят их обработчики; выполненное к этому времени останется выполненным.",
  requeue_ask: "Вернуть в очередь {queue} сообщения: {n}?", requeue_text: "Они станут новыми сообщениями; попытки начнутся с 1, история сохранится.",
  "did_run-now": "запущено: {n}", did_delay: "отложено: {n}", did_cancel: "отменено: {n}", did_requeue: "возвращено: {n}", did_edit: "изменено: {n}", did_ask: "в работе, обработчики извещены: {n}", did_refuse: "изменились за это время, отказано: {n}",
  any_state: "Любое состояние", sort: "Порядок", sort_by: "Порядок: {name}", all_queues: "Все очереди", all_dispatchers: "Все диспетчеры", enabled: "включено", took: "Заняло", cron_text: "Когда (cron)", zone: "Часовой пояс", next_times: "Следующие пять раз, в этом поясе", do_save_times: "Сохранить время",
  schedule_run_ask: "Запустить {name} сейчас?", schedule_run_text: "Обычное расписание не изменится.", schedule_started: "{name}: запущено; результат появится здесь",
  schedule_paused: "{name}: на паузе", schedule_resumed: "{name}: снова работает", schedule_saved: "{name}: время сохранено",
  role_none: "нет", role_look: "смотреть", role_bodies: "смотреть и читать содержимое", role_act: "действовать", token_role: "С этим токеном можно только {role}; введите другой.",
  rights_unset: "Только чтение: токена ещё нет. Создайте его командой openssl rand -hex 32 и задайте как http_token или PGMQD_HTTP_TOKEN в окружении.",
  rights_guest: "Только чтение: для изменений нужен токен доступа.", rights_look: "Только чтение: с этим токеном можно смотреть.", rights_bodies: "Только чтение: с этим токеном можно смотреть и читать содержимое.",
  error: "Не получилось: {message}",
};

const all = { en, ru };

export let lang = localStorage.getItem("lang") || (navigator.language || "en").slice(0, 2);
if (!all[lang]) lang = "en";

// Says a word in the page's language; {name} is replaced.
export function t(word, values) {
  let text = all[lang][word] ?? en[word] ?? word;
  for (const key in values ?? {}) text = text.replaceAll(`{${key}}`, values[key]);
  return text;
}

export function setLang(next) {
  lang = next;
  localStorage.setItem("lang", next);
  document.documentElement.lang = next;
}

// Numbers, durations and times as the language writes them.
export const number = (n, digits = 0) => n == null ? "–" : new Intl.NumberFormat(lang, { maximumFractionDigits: digits, notation: n >= 1e6 ? "compact" : "standard" }).format(n);

export function duration(seconds) {
  if (seconds == null) return "–";
  const nb = "\u00a0";
  if (seconds < 0.00005) return `0${nb}${t("ms")}`;
  if (seconds < 1) return `${number(seconds * 1000, seconds < 0.01 ? 1 : 0)}${nb}${t("ms")}`;
  if (seconds < 60) return `${number(seconds, seconds < 10 ? 1 : 0)}${nb}${t("s")}`;
  if (seconds < 3600) return `${number(Math.floor(seconds / 60))}${nb}${t("min")}`;
  if (seconds < 86400) return `${number(Math.floor(seconds / 3600))}${nb}${t("h")} ${number(Math.floor(seconds % 3600 / 60))}${nb}${t("min")}`;
  return `${number(Math.floor(seconds / 86400))}${nb}${t("d")} ${number(Math.floor(seconds % 86400 / 3600))}${nb}${t("h")}`;
}

export const time = iso => iso == null ? "–" : new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso));
export const clock = date => new Intl.DateTimeFormat(lang, { timeStyle: "medium" }).format(date);

// "in 5 min", "2 h ago".
export function ago(iso) {
  if (iso == null) return "–";
  const s = (new Date(iso) - Date.now()) / 1000, f = new Intl.RelativeTimeFormat(lang, { numeric: "auto" });
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]])
    if (Math.abs(s) >= size) return f.format(Math.round(s / size), unit);
  return f.format(Math.round(s), "second");
}
