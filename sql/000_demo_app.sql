-- 000_demo_app.sql: a stand-in for the application's own tables, with two people in them; only for demos and tests.
--
-- A database with an application of its own is refused, so that nobody gets the sample people among real ones. Like
-- many applications this one keeps no e-mail address in profiles: it is in auth.users.

SET search_path = pg_catalog, pg_temp;

DO $$
DECLARE
  t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['auth.users', 'public.profiles', 'public.assessments', 'public.appointments',
    'public.payments']
  LOOP
    IF to_regclass(t) IS NOT NULL
      AND obj_description(to_regclass(t), 'pg_class') IS DISTINCT FROM 'pgmqd demo application'
    THEN
      RAISE EXCEPTION 'table % belongs to an application: the demo application goes into a database without one', t;
    END IF;
  END LOOP;
END $$;

CREATE SCHEMA IF NOT EXISTS auth;

CREATE TABLE IF NOT EXISTS auth.users (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  email text UNIQUE
);
COMMENT ON TABLE auth.users IS 'pgmqd demo application';

CREATE TABLE IF NOT EXISTS public.profiles (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  full_name text,
  language text,
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE public.profiles IS 'pgmqd demo application';

CREATE TABLE IF NOT EXISTS public.assessments (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id uuid NOT NULL REFERENCES public.profiles (id),
  type text NOT NULL DEFAULT 'comprehensive',
  status text NOT NULL DEFAULT 'in_progress' CHECK (status IN ('in_progress', 'completed', 'abandoned')),
  started_at timestamptz NOT NULL DEFAULT now(),
  completed_at timestamptz,
  score integer CHECK (score BETWEEN 0 AND 100),
  answers jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE public.assessments IS 'pgmqd demo application';

CREATE TABLE IF NOT EXISTS public.appointments (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id uuid NOT NULL REFERENCES public.profiles (id),
  specialist_name text NOT NULL,
  starts_at timestamptz NOT NULL,
  ends_at timestamptz,
  location text,
  status text NOT NULL DEFAULT 'scheduled'
    CHECK (status IN ('pending', 'scheduled', 'confirmed', 'in_progress', 'completed', 'cancelled')),
  created_at timestamptz NOT NULL DEFAULT now(),
  CHECK (ends_at > starts_at)
);
COMMENT ON TABLE public.appointments IS 'pgmqd demo application';

CREATE TABLE IF NOT EXISTS public.payments (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id uuid NOT NULL REFERENCES public.profiles (id),
  appointment_id uuid REFERENCES public.appointments (id),
  amount numeric(12, 2) NOT NULL CHECK (amount > 0),
  currency text NOT NULL DEFAULT 'RUB',
  status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'completed', 'failed', 'refunded')),
  description text,
  provider_payment_id text,
  created_at timestamptz NOT NULL DEFAULT now(),
  paid_at timestamptz
);
COMMENT ON TABLE public.payments IS 'pgmqd demo application';

-- ---- two people, each with a check-up to be completed, an appointment, and a payment that is under way ----

INSERT INTO auth.users (id, email) VALUES
  ('a0000000-0000-4000-8000-000000000001', 'anna@example.test'),
  ('a0000000-0000-4000-8000-000000000002', 'john@example.test')
ON CONFLICT DO NOTHING;

INSERT INTO public.profiles (id, full_name, language) VALUES
  ('a0000000-0000-4000-8000-000000000001', 'Анна Примерова', 'ru'),
  ('a0000000-0000-4000-8000-000000000002', 'John Sample', 'en')
ON CONFLICT DO NOTHING;

INSERT INTO public.assessments (id, user_id, type, started_at, score, answers) VALUES
  ('b0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001', 'comprehensive',
    now() - interval '20 minutes', 68, '{
    "sleep": {"order": 1, "title": "Сон", "score": 54, "answers": [
      {"question": "Сколько часов вы обычно спите?", "value": 6, "unit": "ч", "reference": {"low": 7, "high": 9}},
      {"question": "Сколько времени вам нужно, чтобы заснуть?", "value": 35, "unit": "мин", "reference": {"high": 20}},
      {"question": "Как часто вы просыпаетесь ночью?", "answer": "Три–четыре раза в неделю",
        "reference": "не чаще двух раз", "points": 1},
      {"question": "Чувствуете ли вы себя отдохнувшей утром?", "answer": "Иногда", "reference": "обычно", "points": 2}],
      "recommendations": ["Ложитесь на полчаса раньше и вставайте в одно и то же время, в выходные тоже. Через две недели сравните, как вы себя чувствуете утром."]},
    "nutrition": {"order": 2, "title": "Питание", "score": 71, "answers": [
      {"question": "Сколько порций овощей и фруктов вы съедаете в день?", "value": 3.5, "reference": {"low": 5}},
      {"question": "Сколько воды вы выпиваете в день?", "value": 1.2, "unit": "л", "reference": {"low": 1.5, "high": 2.5}},
      {"question": "Как часто вы едите сладкое?", "answer": "Несколько раз в неделю",
        "reference": "не каждый день", "points": 3}],
      "recommendations": ["Добавьте к обеду салат, а к полднику — яблоко: так пять порций в день набираются сами."]},
    "activity": {"order": 3, "title": "Движение", "score": 63, "answers": [
      {"question": "Сколько шагов вы проходите в день?", "value": 6200, "reference": {"low": 8000}},
      {"question": "Сколько раз в неделю вы тренируетесь?", "value": 1, "reference": {"low": 2}},
      {"question": "Сколько часов в день вы сидите?", "value": 7.5, "unit": "ч", "reference": {"high": 8}}],
      "recommendations": ["Выходите на одну остановку раньше и добавьте вторую тренировку, хотя бы двадцать минут быстрой ходьбы."]},
    "stress": {"order": 4, "title": "Стресс", "score": 49, "answers": [
      {"question": "Как часто вы чувствуете напряжение?", "answer": "Почти каждый день",
        "reference": "раз в неделю и реже", "points": 1},
      {"question": "Удаётся ли вам отдыхать без телефона?", "answer": "Иногда", "reference": "каждый день", "points": 2}],
      "recommendations": ["Выделите каждый вечер двадцать минут без экрана. Если напряжение не спадает за месяц, обсудите это с врачом."]},
    "heart": {"order": 5, "title": "Сердце и сосуды", "score": 82, "answers": [
      {"question": "Давление в покое", "answer": "122/78", "unit": "мм рт. ст.", "reference": "до 130/85", "points": 4},
      {"question": "Пульс в покое", "value": 68, "unit": "уд/мин", "reference": {"low": 55, "high": 80}},
      {"question": "Общий холестерин", "value": 5.4, "unit": "ммоль/л", "reference": {"high": 5.2}}],
      "recommendations": ["Холестерин чуть выше ориентира: замените часть животных жиров рыбой и орехами и пересдайте анализ через три месяца."]},
    "habits": {"order": 6, "title": "Привычки", "score": 90, "answers": [
      {"question": "Курите ли вы?", "answer": "Нет", "reference": "нет", "points": 4},
      {"question": "Сколько порций алкоголя вы выпиваете в неделю?", "answer": "1–2", "reference": "до 4", "points": 3}]}
  }'),
  ('b0000000-0000-4000-8000-000000000002', 'a0000000-0000-4000-8000-000000000002', 'comprehensive',
    now() - interval '35 minutes', 76, '{
    "sleep": {"order": 1, "title": "Sleep", "score": 80, "answers": [
      {"question": "How many hours do you usually sleep?", "value": 7.5, "unit": "h", "reference": {"low": 7, "high": 9}},
      {"question": "How long does it take you to fall asleep?", "value": 15, "unit": "min", "reference": {"high": 20}},
      {"question": "How often do you wake up at night?", "answer": "Rarely", "reference": "twice a week at most", "points": 3},
      {"question": "Do you feel rested in the morning?", "answer": "Mostly", "reference": "mostly", "points": 3}]},
    "nutrition": {"order": 2, "title": "Nutrition", "score": 52, "answers": [
      {"question": "How many portions of fruit and vegetables do you eat a day?", "value": 2, "reference": {"low": 5}},
      {"question": "How much water do you drink a day?", "value": 1.5, "unit": "l", "reference": {"low": 1.5, "high": 2.5}},
      {"question": "How often do you eat sweets?", "answer": "Every day", "reference": "not every day", "points": 1}],
      "recommendations": ["Have a salad with lunch and an apple in the afternoon: that brings you from two portions to four.",
        "Keep sweets for the weekend, and fruit on the table."]},
    "activity": {"order": 3, "title": "Activity", "score": 84, "answers": [
      {"question": "How many steps do you walk a day?", "value": 10400, "reference": {"low": 8000}},
      {"question": "How often do you exercise in a week?", "value": 3, "reference": {"low": 2}},
      {"question": "How many hours a day do you sit?", "value": 7, "unit": "h", "reference": {"high": 8}}]},
    "stress": {"order": 4, "title": "Stress", "score": 70, "answers": [
      {"question": "How often do you feel tense?", "answer": "Once or twice a week", "reference": "once a week at most", "points": 2},
      {"question": "Can you rest without your phone?", "answer": "Usually", "reference": "every day", "points": 3}],
      "recommendations": ["Plan one evening a week without a screen, and notice how you sleep after it."]},
    "heart": {"order": 5, "title": "Heart and circulation", "score": 74, "answers": [
      {"question": "Blood pressure at rest", "answer": "131/84", "unit": "mmHg", "reference": "up to 130/85", "level": "high"},
      {"question": "Pulse at rest", "value": 72, "unit": "bpm", "reference": {"low": 55, "high": 80}},
      {"question": "Total cholesterol", "value": 4.9, "unit": "mmol/l", "reference": {"high": 5.2}}],
      "recommendations": ["Measure your blood pressure in the morning and in the evening for a week, and show the numbers to your doctor."]},
    "habits": {"order": 6, "title": "Habits", "score": 78, "answers": [
      {"question": "Do you smoke?", "answer": "I gave up a year ago", "reference": "no", "points": 3},
      {"question": "How many drinks do you have in a week?", "answer": "3–4", "reference": "up to 4", "points": 3}]}
  }')
ON CONFLICT DO NOTHING;

INSERT INTO public.appointments (id, user_id, specialist_name, starts_at, ends_at, location) VALUES
  ('c0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001', 'Мария Образцова',
    date_trunc('hour', now()) + interval '7 days', date_trunc('hour', now()) + interval '7 days 50 minutes',
    'ул. Примерная, д. 5, кабинет 12'),
  ('c0000000-0000-4000-8000-000000000002', 'a0000000-0000-4000-8000-000000000002', 'Mary Specimen',
    date_trunc('hour', now()) + interval '8 days', date_trunc('hour', now()) + interval '8 days 50 minutes',
    '5 Example Street, room 12')
ON CONFLICT DO NOTHING;

INSERT INTO public.payments (id, user_id, appointment_id, amount, description) VALUES
  ('d0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001',
    'c0000000-0000-4000-8000-000000000001', 1490.00, 'Консультация специалиста'),
  ('d0000000-0000-4000-8000-000000000002', 'a0000000-0000-4000-8000-000000000002',
    'c0000000-0000-4000-8000-000000000002', 1490.00, 'Consultation')
ON CONFLICT DO NOTHING;

RESET search_path;
